"""A search given as Python values instead of YAML: the same plain values, without lines.

Numbers of numpy become Python's, tuples become lists, paths become strings; what YAML could not say is noted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from trainables.yamltree import YamlPath


class Values:
    """What :class:`trainables.yamltree.Tree` is for a text: plain values, collecting what is wrong.

    Args:
        value: of anything; mappings and lists are copied.
    """

    def __init__(self, value: Any) -> None:
        self.lines: dict[YamlPath, None] = {}  # every path there is; none has a line
        self.words: dict[YamlPath, str] = {}
        self.problems: list[tuple[YamlPath, str, None]] = []
        self.data: Any = None
        try:
            self.data = self._plain(value, ())
        except RecursionError:
            self.problems.append(((), "is nested too deeply, or holds itself", None))

    def _plain(self, value: Any, path: YamlPath) -> Any:
        self.lines[path] = None
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str):
            if any("\ud800" <= character <= "\udfff" for character in value):
                self.problems.append((path, "is not valid Unicode", None))
                return ""
            return str.__str__(value)
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real):
            return float(value)
        if isinstance(value, list | tuple):
            return [self._plain(item, (*path, i)) for i, item in enumerate(value)]
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        self.problems.append((path, f"is a {type(value).__name__}, which no search file can hold", None))
        return None

    def _mapping(self, value: Mapping[Any, Any], path: YamlPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in value.items():
            if isinstance(key, str):
                found[str.__str__(key)] = self._plain(item, (*path, str.__str__(key)))
            else:
                self.problems.append((path, f"a key must be a word, not {key!r}", None))
        return found
