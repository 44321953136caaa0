"""Texts that are lists, as pandas, numpy or JSON write them into a cell: ``['Drama', 'Comedy']``."""

from __future__ import annotations

import ast
import json
import re

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_ITEM = rf"(?:{_QUOTED}|[-+\w.]+)"
_COMMAS = re.compile(rf"\s*(?:{_ITEM}\s*(?:,\s*{_ITEM}\s*)*,?)?\s*", re.DOTALL)
_BLANKS = re.compile(rf"\s*(?:{_QUOTED})(?:\s+(?:{_QUOTED}))*\s*", re.DOTALL)  # as numpy prints an array
_BARE = re.compile(r"""[^\[\]{}'"]*""")
_ENDS = {"[": "]", "(": ")", "{": "}"}


def list_of(text: str) -> list[str] | None:
    """The items of a list, tuple or set that is written as text; None if it is none.

    A list without quotes, ``[Drama, Comedy]`` or (of PostgreSQL) ``{Drama,Comedy}``, is one too; ``(Drama)`` is not.
    """
    if text in ("()", "{}", "set()"):
        return []
    if len(text) < 2 or _ENDS.get(text[0]) != text[-1]:
        return None
    if text[0] == "[":
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            return [_name(item) for item in value] if all(map(_is_single, value)) else None
    inside = text[1:-1]
    if _COMMAS.fullmatch(inside) or _BLANKS.fullmatch(inside):
        if text[0] == "(" and not re.search(r"['\"]", inside):
            return None
        items = re.findall(_ITEM, inside, re.DOTALL)
        try:
            return [ast.literal_eval(item) if item[0] in "'\"" else item for item in items]
        except (ValueError, SyntaxError):
            return None
    if text[0] != "(" and _BARE.fullmatch(inside):
        return [item for item in map(str.strip, inside.split(",")) if item]
    return None


def holds_objects(text: str) -> bool:
    """Whether a text is a list of mappings, such as ``[{'id': 18, 'name': 'Drama'}]``."""
    return text.startswith("[") and text[1:].lstrip().startswith("{") and text.endswith("]")


def _is_single(item: object) -> bool:
    return item is None or isinstance(item, str | int | float)


def _name(item: object) -> str:
    if isinstance(item, float) and item.is_integer():
        item = int(item)
    return "" if item is None or item != item else str(item)
