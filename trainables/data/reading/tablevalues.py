"""Values of a table's cells: texts, numbers, classes, lists; what is read otherwise than written is counted."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from trainables.data.reading.cells import read_number
from trainables.data.reading.fields import show, single_text
from trainables.data.reading.listtext import holds_objects, list_of
from trainables.data.reading.rows import MISSING, Rows
from trainables.data.reading.tablefile import LabelSpec

_LIST_OF_ONE = "a list where one value is expected, and taken as one text (kind: multilabel reads lists)"
_LIST = "a text that is a list, read as its items"
_NO_LIST = "a text that begins with [ and is no list"
_SEPARATORS = ("|", ";", ",", "\t", "/")
_OFTEN = 0.2  # of the rows: no chance


class TableValues:
    """Reads cells for ``rows``, whose settings hold.

    Args:
        rows: gets the notes.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.no_number: dict[str, str] = {}  # column -> the first text that is none, and its place
        self._known: dict[str, str] = {}  # one string for each different label or category

    def text(self, row: dict[str, Any], column: str) -> str:
        """A value as text: 3.0 is '3' (a column of whole numbers with gaps), nothing is ''.

        Raises:
            BadRow: several values.
        """
        return single_text(row, column)

    def category(self, row: dict[str, Any], column: str, what: str) -> str | None:
        """The same, as it is before :meth:`Rows.names`; None where a category is missing, '' where a label is."""
        value = self.text(row, column)
        if value.startswith("[") and list_of(value) is not None:
            self.rows.tally(what, _LIST_OF_ONE, value)
        if not value:
            return "" if what.startswith("label") else None
        return self._known.setdefault(value, value)

    def number(self, row: dict[str, Any], column: str, what: str) -> float:
        """NaN where there is none; what is no number is a problem, what means a missing one is counted."""
        try:
            number, word = read_number(row.get(column), self.rows.cells)
        except ValueError as error:
            self.rows.note(*self.rows.place, f"{column!r} {error}: taken as missing")
            self.no_number.setdefault(column, self.rows.problems[-1])
            return math.nan
        if word:
            self.rows.tally(what, MISSING, word)
        return number

    def label(self, row: dict[str, Any], name: str, label: LabelSpec) -> Any:
        """A number, a class, or the classes of a multi-label row (None without one).

        Raises:
            BadRow: several values where one is expected.
            ValueError: a list of objects.
        """
        what = f"label {name}"
        if label.kind == "regression":
            return self.number(row, label.column, what)
        if label.kind == "multiclass":
            return self.category(row, label.column, what)
        value = row.get(label.column)
        if isinstance(value, list | tuple):
            names = [single_text({label.column: item}, label.column) for item in value]
        else:
            text = self.text(row, label.column)
            if not text:
                return ("",)
            names = self._items(text, name, label)
        names = [text for text in map(str.strip, names) if text]
        return tuple(self._known.setdefault(text, text) for text in dict.fromkeys(names))

    def _items(self, text: str, name: str, label: LabelSpec) -> Sequence[str]:
        if text[0] in "[({" or text == "set()":
            items = list_of(text)
            if items is not None:
                self.rows.tally(f"label {name}", _LIST, text)
                return items
            if holds_objects(text):
                raise ValueError(
                    f"{self.rows.root / 'table.yaml'}: labels.{name}: column {label.column!r} holds lists of objects, "
                    f"{self.rows.here()}: {show(text)}; write the names of the classes into a column"
                )
            if text[0] == "[":
                self.rows.tally(f"label {name}", _NO_LIST, text)
        return text.split(label.separator) if label.separator else [text]


def separator_note(name: str, label: LabelSpec, values: Sequence[Collection[str] | None]) -> str | None:
    """What to say of a multi-label column that seems to have another separator; None where nothing does."""
    rows = [[*value] for value in values if value]
    if label.kind != "multilabel" or not rows or max(map(len, rows)) > 1:
        return None
    different = {value[0] for value in rows}
    for separator in _SEPARATORS:
        having = [value[0] for value in rows if separator in value[0].strip(separator)]
        pieces = {piece.strip() for text in different for piece in text.split(separator)}
        if separator != label.separator and len(having) >= max(2, _OFTEN * len(rows)) and len(pieces) < len(different):
            given = "no row has the separator given" if label.separator else "no separator is given"
            return (
                f"label {name}: {given}, and {len(having):,} of {len(rows):,} rows have {separator!r}, such as "
                f"{show(having[0])}: is that labels.{name}.separator?"
            )
    return None
