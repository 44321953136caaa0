"""Fields of a row as JSON or CSV has them: texts, ids, classes, lists of names; what is none of it is a BadRow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.data.reading.cells import USUAL, composed, plain_id, value_key
from trainables.data.reading.listtext import list_of


class BadRow(Exception):
    """Why a row cannot be used; caught by :meth:`trainables.data.reading.rows.Rows.at`."""


def value_of(row: Mapping[str, Any], key: str) -> Any:
    """``row[key]``; None where it is not there, or NaN (as JSON of Python has it)."""
    value = row.get(key)
    return None if isinstance(value, float) and value != value else value


def is_missing(row: Mapping[str, Any], key: str) -> bool:
    """Whether ``row[key]`` is not there, or a word that means so."""
    value = value_of(row, key)
    return value is None or (isinstance(value, str) and USUAL.is_missing(value.strip()))


def single_text(row: Mapping[str, Any], key: str) -> str:
    """A text, number or truth value as text, stripped: 3.0 is '3' (a column of whole numbers with gaps), nothing is ''.

    Raises:
        BadRow: several values.
    """
    value = value_of(row, key)
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bytes | dict | list):
        raise BadRow(f"{key!r} is no single value: {show(value)}")
    return clean(str(value)).strip()


def text_of(row: Mapping[str, Any], key: str, *, default: str | None = None) -> str:
    """``row[key]`` where it is a text, stripped.

    Args:
        default: stands for a missing or null entry; None makes that a problem.

    Raises:
        BadRow: it is missing, or no text.
    """
    value = value_of(row, key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise BadRow(f"no {key!r}" if value is None else f"{key!r} is no text: {show(value)}")
    return clean(value).strip()


def id_of(row: Mapping[str, Any], key: str = "id") -> str:
    """``row[key]`` as a text, from a text or a whole number: accents composed, 7.0 is 7.

    Raises:
        BadRow: it is missing, empty, or something else.
    """
    value = value_of(row, key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise BadRow(f"no {key!r}" if value in (None, "") else f"{key!r} is no id: {show(value)}")
    return plain_id(clean(str(value)).strip())


def class_of(row: Mapping[str, Any], key: str, classes: Mapping[Any, str]) -> str:
    """The class that ``row[key]`` stands for.

    Raises:
        BadRow: it is missing, or stands for none.
    """
    value = value_of(row, key)
    if value is None or (isinstance(value, str) and value not in classes and USUAL.is_missing(value.strip())):
        raise BadRow(f"no {key!r}")
    if isinstance(value, bool | float) and value in (0, 1):
        value = int(value)
    if isinstance(value, str) and value not in classes:
        by_key = {value_key(str(name)): name for name in classes}
        value = by_key.get(value_key(value), by_key.get({"true": "1", "false": "0"}.get(value_key(value), ""), value))
    if not isinstance(value, str | int) or value not in classes:
        raise BadRow(f"{key!r} is {show(value)}, none of {', '.join(dict.fromkeys(map(str, classes)))}")
    return classes[value]


def names_of(row: Mapping[str, Any], key: str) -> list[str]:
    """``row[key]`` as a list of texts without repeats.

    Raises:
        BadRow: it is missing, or no list of texts.
    """
    value = value_of(row, key)
    if isinstance(value, str):
        value = list_of(value.strip()) or value
    if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
        raise BadRow(f"no {key!r}" if value is None else f"{key!r} is no list of names: {show(value)}")
    return list(dict.fromkeys(composed(clean(name).strip()) for name in value))


def clean(text: str) -> str:
    """``text`` without what no tokenizer and no file takes: lone surrogates (JSON can spell them)."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def show(value: object) -> str:
    """``value`` as a message quotes it: cut short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
