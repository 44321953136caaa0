"""What of all that was measured a person should look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trainables.data.check.result import CopyCheck, DatasetCheck, Finding, RowRef, TargetCheck
from trainables.data.reading.exclude import NAME as EXCLUDE
from trainables.data.reading.exclude import was_excluded

# From where on a person should look at it.
_MANY_CUT = 0.05  # texts that are cut
_MANY_NAMED = 0.05  # rows whose text names their class
_MANY_UNSEEN = 0.2  # values of a column that no training row has
_PREDICTS = 0.3  # of what the majority gets wrong, a single column gets right
_PERFECT = 0.999  # correlation with the label


def findings_of(check: DatasetCheck) -> list[Finding]:
    """In the order of how bad they are; ``check.findings`` is not read."""
    found: list[Finding] = []

    def add(text: str, examples: Sequence[str] = (), *, is_strict: bool = False) -> None:
        found.append(Finding(text=text, is_strict=is_strict, examples=list(examples[:3])))

    excluded = [problem for problem in check.problems if was_excluded(problem)]
    problems = [problem for problem in check.problems if not was_excluded(problem)]
    if problems:
        add(f"{_num(problems, 'row')} left out or repaired by the reader", problems, is_strict=True)
    if excluded:
        add(f"{_num(excluded, 'row')} left out by {EXCLUDE}")
    for note in check.notes:
        add(note)
    if check.duplicate_ids:
        add(f"{_num(check.duplicate_ids, 'id')} given twice or more", list(check.duplicate_ids), is_strict=True)
    for split, num in check.rows.items():
        if not num:
            add(f"no rows in {split}")
    if check.image is not None and check.image.bad_images:
        bad = check.image.bad_images
        shown = [f"{_at(one.row)} of {one.row.split}: {one.problem}" for one in bad]
        add(f"{_num(bad, 'image')} missing or unreadable", shown, is_strict=True)
    for name in ("text", "image"):
        if name in check.copies:
            _add_copies(add, name, check.copies[name])
    for name, target in check.targets.items():
        _add_target(add, f"target {name}", target, check)
    if check.text is not None:
        empty = sum(check.text.empty.values())
        if empty:
            add(f"{_num(empty, 'text')} empty", [f"{row.id} of {row.split}" for row in check.text.empty_rows])
        for name, tokens in check.text.tokens.items():
            cut = min(tokens.max_text_len, tokens.limit or tokens.max_text_len)
            share = max(tokens.cut_share, tokens.over_limit_share)
            if share > _MANY_CUT:
                add(f"{share:.1%} of texts have more than {cut} tokens of {name} and are cut")
    if check.image is not None and check.image.plain:
        add(f"{_num(check.image.plain, 'image')} plain: one colour, nothing to see")
    for name, column in check.numeric.items():
        if column.missing_share == 1:
            add(f"numeric column {name} has no values")
        elif column.is_constant:
            add(f"numeric column {name} is constant")
        for target, value in column.correlation.items():
            if value is not None and value >= _PERFECT:
                add(f"numeric column {name} gives target {target} away: correlation {value:.4f}")
    for name, column in check.categorical.items():
        for split, share in column.unseen_share.items():
            if share is not None and share > _MANY_UNSEEN:
                add(f"categorical column {name}: {share:.1%} of {split} rows have a value that no training row has")
        for target, alone in column.alone.items():
            if alone is not None and alone.gain >= _PREDICTS:
                told = f"{alone.metric} {alone.score:.3f} against {alone.baseline:.3f}"
                add(f"categorical column {name} alone predicts target {target}: {told}; is it known beforehand?")
    return found


def _add_copies(add: Callable[..., None], name: str, copies: CopyCheck) -> None:
    for is_exact, num in ((True, copies.exact_across), (False, copies.near_across)):
        if not num:
            continue
        examples = [
            f"{_at(one.row)} of {one.row.split}, {_at(one.copy_of)} of {one.copy_of.split}"
            + (f": {_cut(one.text)}" + ("" if is_exact else f", {_cut(one.copy_text)}") if name == "text" else "")
            for one in copies.examples
            if one.is_exact == is_exact and one.row.split != one.copy_of.split
        ]
        counts = copies.exact if is_exact else copies.near
        assert counts is not None
        pairs = (("test", "train"), ("val", "train"), ("test", "val"))
        where = ", ".join(f"{counts[a][b]} {a} in {b}" for a, b in pairs if counts[a][b])
        same = f"the same {name}" if is_exact else f"nearly the same {name}"
        add(f"{_num(num, 'row')} with {same} in an earlier split: {where}", examples, is_strict=True)
    if copies.skipped:
        add(f"near copies of {name}: there may be more; {copies.skipped:,} times one was like too many others to tell")


def _add_target(add: Callable[..., None], name: str, target: TargetCheck, check: DatasetCheck) -> None:
    for split, num in target.labelled.items():
        if check.rows[split] and not num:
            add(f"{name}: no labels in {split}")
    rest = check.rows["train"] - target.labelled["train"]
    if rest and target.labelled["train"]:
        add(
            f"{name}: {rest:,} of {check.rows['train']:,} rows in train have no label: UDA (fixed, dynamic) and the "
            f"VAEs train on them too, everything else leaves them out"
        )
    for split, classes in target.missing.items():
        if classes:
            add(
                f"{name}: {len(classes)} of {len(target.classes)} classes have no row in {split}",
                [", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")],
            )
    if target.num_contradictions:
        examples = [
            " / ".join(f"{_at(row)}: {label}" for row, label in zip(one.rows[:3], one.labels, strict=False))
            for one in target.contradictions
        ]
        rest = target.contradicting_in_all
        also = "" if rest is None else f"; {rest} of them even with the same numbers, categories and graph"
        same = " and ".join(part for part, there in (("text", check.text), ("image", check.image)) if there is not None)
        text = f"{name}: {_num(target.contradicting_rows, 'row')} with the same {same} have different labels{also}"
        add(text, examples, is_strict=rest != 0)  # other columns may tell such rows apart
    if target.named_share is not None and target.named_share > _MANY_NAMED:
        add(f"{name}: the text of {target.named_share:.1%} of rows names their class")


def _num(what: Any, name: str) -> str:
    num = what if isinstance(what, int) else len(what)
    return f"{num:,} {name}{'' if num == 1 else 's'}"


def _cut(text: str | None) -> str:
    return repr(text if text is None or len(text) <= 60 else f"{text[:57]}...")


def _at(row: RowRef) -> str:
    return row.id if row.place is None or row.place.startswith("row ") else f"{row.id} ({row.place})"
