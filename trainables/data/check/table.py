"""What is wrong with a dataset before anybody trains on it: labels, texts, images, copies across splits, leaks.

Everything counted is in a :class:`DatasetCheck`; what a person should look at is in its ``findings``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from trainables.data.check.columns import check_categorical, check_graph, check_numeric
from trainables.data.check.copies import check_copies
from trainables.data.check.duplicates import codes_of, normalised
from trainables.data.check.findings import findings_of
from trainables.data.check.images import ImageScan, scan_images
from trainables.data.check.labels import Labels, check_target
from trainables.data.check.result import BadImage, DatasetCheck, ImageCheck, TextCheck, TokenLengths
from trainables.data.check.rows import Look, choose_rows
from trainables.data.reading.table import Table
from trainables.encoders.tokenizers import load_tokenizer, max_text_tokens

_PERCENTILES = (5, 25, 50, 75, 95, 100)
_BATCH = 1024  # texts tokenised together

Progress = Callable[[str, int, int], None]


def check_table(
    table: Table,
    *,
    dataset: str,
    target: str | None = None,
    text_encoders: Sequence[str] = (),
    max_text_len: int = 128,
    max_rows: int | None = None,
    progress: Progress | None = None,
) -> DatasetCheck:
    """Looks at every row, decodes every image.

    Args:
        dataset: its name.
        target: the only one to look at; None is all.
        text_encoders: whose tokens are counted.
        max_text_len: as in a search file, specials included.
        max_rows: looks at so many random rows at most, of each split its share; None is all.
        progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        ValueError: an unknown target or text encoder, or text encoders for a dataset without text.
    """
    if target is not None and target not in table.targets:
        raise ValueError(f"target '{target}' is unknown for dataset {dataset}. Known: {', '.join(table.targets)}")
    if text_encoders and table.texts is None:
        raise ValueError(f"dataset {dataset} has no text: --text-encoder {text_encoders[0]} would be ignored")
    rows = choose_rows(table, max_rows)
    look = Look(table, rows)
    text = _check_text(look, text_encoders, max_text_len, progress)
    scan = None if table.images is None else scan_images(table.images, rows, progress)
    if progress is not None:
        progress("copies", 0, 1)
    texts = None if table.texts is None else codes_of(normalised(value) or None for value in look.texts)
    pixels = None if scan is None else codes_of([one.pixel_hash for one in scan.pictures])[scan.picture]
    targets = {name: Labels(look, table.targets[name]) for name in ([target] if target else table.targets)}
    check = DatasetCheck(
        dataset=dataset,
        num_read=len(table.ids),
        rows=look.count(np.ones(len(rows), bool)),
        problems=list(table.problems),
        notes=list(table.notes),
        duplicate_ids={id: num for id, num in Counter(look.ids).items() if num > 1},
        targets={name: check_target(look, one, texts, pixels) for name, one in targets.items()},
        text=text,
        image=None if scan is None else _check_images(look, scan),
        copies=check_copies(look, scan, texts, pixels),
        numeric=check_numeric(look, targets),
        categorical={
            name: check_categorical(look, [values[row] for row in rows], targets)
            for name, values in table.categorical.items()
        },
        graphs={name: check_graph(look, graph) for name, graph in table.graphs.items()},
    )
    if progress is not None:
        progress("copies", 1, 1)
    return replace(check, findings=findings_of(check))


# --- texts ------------------------------------------------------------------------------------------
def _check_text(look: Look, encoders: Sequence[str], max_text_len: int, progress: Progress | None) -> TextCheck | None:
    if look.table.texts is None:
        return None
    codes = codes_of(look.texts)
    different = list(dict.fromkeys(look.texts))
    train = [text for text, split in zip(look.table.texts, look.table.split, strict=True) if split == "train"]
    tokens = {}
    for name in encoders:
        limit, tokenizer = max_text_tokens(name), load_tokenizer(name, texts=train)
        lengths: list[int] = []
        for start in range(0, len(different), _BATCH):
            if progress is not None:
                progress(f"tokens of {name}", start, len(different))
            encoded = tokenizer(different[start : start + _BATCH], verbose=False)["input_ids"]
            lengths += map(len, encoded)
        by_row = np.array(lengths, np.int64)[codes]
        tokens[name] = TokenLengths(
            percentiles=_percentiles(by_row),
            max_text_len=max_text_len,
            cut_share=float((by_row > max_text_len).mean()),
            limit=limit,
            over_limit_share=0.0 if limit is None else float((by_row > limit).mean()),
        )
    is_empty = np.array([not text.strip() for text in look.texts], bool)
    return TextCheck(
        empty=look.count(is_empty),
        empty_rows=look.refs(is_empty),
        characters=_percentiles(np.array([len(text) for text in look.texts])),
        tokens=tokens,
    )


# --- images -----------------------------------------------------------------------------------------
def _check_images(look: Look, scan: ImageScan) -> ImageCheck:
    problems = [scan.pictures[picture].problem for picture in scan.picture]
    is_bad = np.array([problem is not None for problem in problems], bool)
    good = [scan.pictures[picture] for picture in scan.picture[~is_bad]]
    width, height = (np.array([getattr(one, side) for one in good], np.float64) for side in ("width", "height"))
    return ImageCheck(
        unreadable=look.count(is_bad),
        bad_images=[BadImage(look.ref(int(at)), str(problems[at])) for at in np.flatnonzero(is_bad)],
        pictures=len(scan.pictures),
        width=_percentiles(width),
        height=_percentiles(height),
        aspect=_percentiles(width / height),
        modes=dict(Counter(one.mode for one in good).most_common()),
        kinds=dict(Counter(one.kind for one in good).most_common()),
        plain=sum(one.hashes == (0, 0) for one in good),
    )


def _percentiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.percentile(values, _PERCENTILES)
    return {str(at): float(value) for at, value in zip(_PERCENTILES, found, strict=True)}
