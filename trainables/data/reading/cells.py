"""What the cells of a column say: words that mean 'missing', and one value that is spelled in several ways.

One value: ``1``, ``1.0`` and ``1.00``; ``true`` and ``TRUE`` (and 1 where a column has nothing but truth values);
accents as one character or two; blanks of another kind or number. What was read otherwise than it is written is a note.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trainables.messages import show

# What pandas takes as missing, and other capitals of what is no word.
NA_VALUES = (
    "NaN", "nan", "NAN", "Nan", "-NaN", "-nan", "NA", "N/A", "n/a", "N/a", "<NA>", "#N/A", "#N/A N/A", "#NA", "NaT",
    "None", "NULL", "null", "Null", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN",
)  # fmt: skip
_MAYBE = {"none", "na", "nil", "n.a.", "-", "--", "?", ".", "missing", "#value!", "#ref!", "#div/0!", "#name?"}
_NUMBER = re.compile(r"([+-]?)(0|[1-9]\d*)?(?:\.(\d*))?", re.ASCII)
_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.0+", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_TRUTH = {"true": "1", "false": "0"}
_SHOWN = 3  # examples in a note


@dataclass(frozen=True)
class Cells:
    """How cells are read.

    Attributes:
        na_values: words that mean a missing value; an empty cell always does.
        normalise: several spellings of one value are one.
        setting: what a note says of the file where this can be set, '' where it cannot.
    """

    na_values: frozenset[str] = frozenset(NA_VALUES)
    normalise: bool = True
    setting: str = ""

    def is_missing(self, text: str) -> bool:
        """Whether a cell's text means that there is no value."""
        return not text or text in self.na_values or (number_key(text) or text) in self.na_values

    @cached_property
    def missing_numbers(self) -> frozenset[float]:
        """Those of the words that are numbers, such as -1."""
        return frozenset(float(word) for word in self.na_values if number_key(word) is not None)

    def id(self, text: str) -> str:
        """An id, or a name that files are joined by, in its plain spelling: accents composed, 7.0 is 7."""
        return plain_id(text) if self.normalise else text


USUAL = Cells()


def plain_id(text: str) -> str:
    """An id in its plain spelling; 3.10 stays apart from 3.1."""
    if not text.isascii():
        return unicodedata.normalize("NFC", text)
    whole = _WHOLE.fullmatch(text) if "." in text else None
    return text if whole is None else whole[1]


def composed(text: str) -> str:
    """Accents as one character each (NFC): half of the world's files have them as two."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def number_key(text: str) -> str | None:
    """A decimal number without sign of plus and zeros at its end; None if ``text`` is none, or a code such as 007."""
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        return None
    whole, fraction = match[2] or "0", (match[3] or "").rstrip("0")
    number = f"{whole}.{fraction}" if fraction else whole
    return f"-{number}" if match[1] == "-" and number != "0" else number


def value_key(text: str) -> str:
    """Equal for spellings of one value."""
    if not text.isascii():
        text = composed(text).replace("\u200b", "").replace("\ufeff", "")
    text = " ".join(text.split())
    number = number_key(text)
    if number is not None:
        return number
    return text.lower() if text.lower() in _TRUTH else text


def read_number(value: Any, cells: Cells) -> tuple[float, str | None]:
    """A cell as a number, NaN where it has none, and the word that means so.

    Raises:
        ValueError: it is something else; what it is, to be said of its column.
    """
    text = value.strip() if isinstance(value, str) else ""
    if value is None or (isinstance(value, str) and cells.is_missing(text)):
        return math.nan, text
    try:
        if cells.normalise and value_key(text) in _TRUTH:
            return float(_TRUTH[value_key(text)]), None
        number = math.inf if "_" in text else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if number in cells.missing_numbers:
        return math.nan, f"{number:g}"
    if math.isinf(number):
        comma = text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else None
        raise ValueError(f"is {show(value)}, no number" + (f" (a decimal comma? write {comma})" if comma else ""))
    return number, None


def known_values(known: Collection[str], cells: Cells) -> Callable[[str], str | None]:
    """A function that finds what a text is a spelling of among known values; None where it is none of them."""
    exact = {*known}
    keys = {value_key(name): name for name in known} if cells.normalise else {}
    has_truth_alone = bool(keys) and {*keys} <= {"0", "1", *_TRUTH}

    def find(text: str) -> str | None:
        if text in exact or not cells.normalise:
            return text if text in exact else None
        key = value_key(text)
        return keys.get(key) or (keys.get(_TRUTH.get(key, "")) if has_truth_alone else None)

    return find


def plain_spellings(counts: Mapping[str, int]) -> dict[str, str]:
    """Spelling -> the one that stands for all of its value; only those that change.

    Args:
        counts: how often there is each spelling in a column.
    """
    keys = {text: value_key(text) for text in counts}
    found = {*keys.values()}
    if found <= {"0", "1", *_TRUTH} and found & {"0", "1"} and found & {*_TRUTH}:
        keys = {text: _TRUTH.get(key, key) for text, key in keys.items()}
    groups: dict[str, list[str]] = {}
    for text, key in keys.items():
        groups.setdefault(key, []).append(text)
    if len(groups) == len(counts):
        return {}
    names = {
        key: key if number_key(key) is not None else min(group, key=lambda text: (text != key, -counts[text], text))
        for key, group in groups.items()
    }
    return {text: names[key] for text, key in keys.items() if names[key] != text}


def read_names(
    counts: Mapping[str, int], *, cells: Cells, what: str, unit: str, place_of: Callable[[Collection[str]], str]
) -> tuple[dict[str, str | None], list[str]]:
    """What to put in the place of a column's texts, None for a missing value, and what to say about it.

    Args:
        counts: how often there is each text; '' is an empty cell.
        cells: how they are read.
        what: the column, for notes.
        unit: 'label' or 'value'.
        place_of: the file and line of the first row with one of some texts.
    """

    changed: dict[str, str | None] = {text: None for text in counts if cells.is_missing(text)}
    notes = [missing_note(what, unit, {text: counts[text] for text in changed}, place_of(changed))] if changed else []
    known = {text: count for text, count in counts.items() if text not in changed}
    if cells.normalise:
        merged = plain_spellings(known)
        changed |= merged
        if merged:
            notes.append(f"{what}: {_spellings(merged, known, place_of)}{_otherwise(cells, 'normalise: false')}")
    folded: dict[str, list[str]] = {}
    for text in {changed.get(text, text): None for text in known}:
        assert text is not None
        folded.setdefault(text.casefold(), []).append(text)
    alike = sorted(sorted(group) for group in folded.values() if len(group) > 1)
    if alike and unit == "label":
        pairs = ", ".join(" and ".join(map(repr, group)) for group in alike[:_SHOWN])
        notes.append(f"{what}: {pairs}{_more(alike)} differ in capitals only and stay apart")
    maybe = [text for text in known if text.casefold() in _MAYBE]
    if maybe and unit == "label" and len(known) > len(maybe):
        words = ", ".join(f"{text!r} ({known[text]:,})" for text in sorted(maybe))
        otherwise = _otherwise(cells, "na_values: [...]")
        notes.append(f"{what}: {words} may mean that there is no label, first {place_of(maybe)}{otherwise}")
    return changed, notes


def missing_note(what: str, unit: str, counts: Mapping[str, int], place: str) -> str:
    """'label topic: 6 labels read as missing: NaN; first a.csv line 3'."""
    ranked = sorted(counts, key=lambda text: (-counts[text], text))
    num = sum(counts.values())
    words = ", ".join((text or "empty") + (f" ({counts[text]:,})" if len(ranked) > 1 else "") for text in ranked)
    return f"{what}: {num:,} {unit}{'s' * (num != 1)} read as missing: {words}; first {place}"


def _spellings(merged: Mapping[str, str], counts: Mapping[str, int], place_of: Callable[[Collection[str]], str]) -> str:
    groups: dict[str, list[str]] = {}
    for text, name in merged.items():
        groups.setdefault(name, [name] if name in counts else []).append(text)
    rows = sum(counts[text] for text in merged)
    shown = ", ".join(
        f"{' and '.join(_written(text) for text in sorted(group))} as {_written(name)}"
        for name, group in sorted(groups.items())[:_SHOWN]
    )
    return (
        f"{len(groups):,} value{'s' * (len(groups) != 1)} in several spellings, {rows:,} times another than the one "
        f"that is kept: {shown}{_more(list(groups))}; first {place_of(merged)}"
    )


def _written(text: str) -> str:
    """As a message shows it: what looks like its composed spelling is written with escapes."""
    return repr(text) if composed(text) == text else ascii(text)


def _more(found: Sequence[object]) -> str:
    return f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""


def _otherwise(cells: Cells, setting: str) -> str:
    return f" ({setting} in {cells.setting} says otherwise)" if cells.setting else ""
