"""A YAML file, or a dict in its place, under examination: values, where each was written, everything found wrong."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any, NamedTuple, TypeGuard

from mmtune.spec.values import Values
from trainables.messages import describe, did_you_mean, unknown
from trainables.yamltree import Tree, YamlPath

_SHOWN = 50  # problems in a message


class Problem(NamedTuple):
    key: str
    line: int | None  # None when there is no such line: an override, a file that cannot be read
    message: str


class SpecError(ValueError):
    """What is wrong with a search file or a config, one line each, of the first 50; ``problems`` has all as tuples.

    Args:
        source: the file.
        found: the problems.
        places: for each the override that it comes from, None when from the file.
    """

    def __init__(self, source: str, found: Sequence[Problem], places: Sequence[str | None] | None = None) -> None:
        self.source, self.problems = source, list(found)
        self.places: list[str | None] = list(places) if places is not None else [None] * len(found)
        lines = [f"{source} has {len(found)} problem{'s' if len(found) != 1 else ''}:"]
        for problem, place in list(zip(self.problems, self.places, strict=True))[:_SHOWN]:
            where = place if place is not None else None if problem.line is None else f"line {problem.line}"
            lines.append(f"  {problem.key}{f' ({where})' if where else ''}: {problem.message}")
        if len(found) > _SHOWN:
            lines.append(f"  ... and {len(found) - _SHOWN:,} more")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[SpecError], tuple[str, list[Problem], list[str | None]]]:
        return SpecError, (self.source, self.problems, self.places)


def read_source(
    source: str | Path | Mapping[str, Any],
) -> tuple[str, str | Mapping[str, Any], str | None]:
    """What to call it, its content, and the file's stem.

    The stem is None for a dict, and for YAML itself: a string with a line break, or an empty one.

    Raises:
        SpecError: the file cannot be read.
    """
    if isinstance(source, Mapping):
        return "the dict", source, None
    if isinstance(source, str) and ("\n" in source or not source):
        return "search file", source, None
    try:
        return str(source), Path(source).read_bytes().decode(), Path(source).stem
    except FileNotFoundError:
        message = "does not exist"
    except IsADirectoryError:
        message = "is a directory"
    except UnicodeDecodeError:
        message = "is not text in UTF-8"
    except (OSError, ValueError) as error:
        message = f"cannot be read: {error}"
    raise SpecError(str(source), [Problem("file", None, message)])


class Document:
    """One file. Values are asked for by key; what is wrong with one is noted, and something harmless returned.

    Args:
        source: what to call it in messages.
        content: the YAML, or a dict of what it would say.
        expected: said where the text is no mapping, such as "a search file is a mapping of study, ...".
    """

    def __init__(self, source: str, content: str | Mapping[str, Any], *, expected: str) -> None:
        self.source, self.text = source, content if isinstance(content, str) else ""
        self.is_changed = not isinstance(content, str)  # since that text
        tree = Tree(content) if isinstance(content, str) else Values(content)
        self.places: dict[YamlPath, int | str | None] = {**tree.lines}  # a line, the override, None in a dict
        self.words = tree.words
        self.problems: list[tuple[YamlPath, str, int | str | None, str | None]] = []
        for path, message, line in tree.problems:
            self.bad(path, message, key=None if path else "syntax", place=line)
        self.is_readable = isinstance(tree.data, dict)
        self.data: dict[str, Any] = tree.data if self.is_readable else {}
        if tree.data is None and not self.problems:
            self.bad((), "is empty", place=None)
        elif not self.is_readable and not self.problems:
            self.bad((), f"is {describe(tree.data)}; {expected}")

    # --- problems -------------------------------------------------------------------------------------
    def bad(
        self,
        path: YamlPath,
        message: str,
        *,
        key: str | None = None,
        place: int | str | EllipsisType | None = ...,
    ) -> None:
        """Notes a problem at ``path``, or ``place`` where that has none."""
        self.problems.append((path, message, self.place(path) if isinstance(place, EllipsisType) else place, key))

    def place(self, path: YamlPath) -> int | str | None:
        """The line or the override that ``path``, or what contains it, comes from; None for a dict's own."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]

    def has_problem(self, path: YamlPath) -> bool:
        """Whether something is noted at or below ``path``."""
        return any(other[: len(path)] == path for other, *_ in self.problems)

    def error(self) -> SpecError:
        """Everything noted, in the order of the file, overrides last."""
        unique = dict.fromkeys((key or _key(path), place, message) for path, message, place, key in self.problems)
        unique = sorted(unique, key=lambda problem: problem[1] if isinstance(problem[1], int) else math.inf)
        found = [Problem(key, place if isinstance(place, int) else None, message) for key, place, message in unique]
        return SpecError(self.source, found, [place if isinstance(place, str) else None for _, place, _ in unique])

    def odd_words(self, path: YamlPath) -> list[str]:
        """'no as false' for booleans at or below ``path`` that were written in other words than true and false."""
        found = []
        for at, word in self.words.items():
            if at[: len(path)] == path and word.lower() not in ("true", "false"):
                found.append(f"{word} as {'true' if word.lower() in ('yes', 'on', 'y') else 'false'}")
        return found

    # --- changes --------------------------------------------------------------------------------------
    def put(self, path: YamlPath, value: Any, place: str) -> bool:
        """Sets what is at ``path``, mappings on the way made; None takes a key out of the space."""
        if not self.is_readable:
            return False
        here: Any = self.data
        for depth, part in enumerate(path):
            if (missing := _not_in(here, part)) is not None:
                self.bad(path[:depth], missing, place=place)
                return False
            if depth < len(path) - 1:
                if isinstance(part, str) and here.get(part) is None:
                    here[part] = {}
                    self.places[path[: depth + 1]] = place
                here = here[part]
        self.is_changed = True
        for known in [known for known in (*self.places, *self.words) if known[: len(path)] == path]:
            self.places.pop(known, None)
            self.words.pop(known, None)
        if path[0] == "space" and len(path) == 2 and value is None:
            here.pop(path[1], None)
        else:
            here[path[-1]] = value
            self.places[path] = place
        return True

    # --- values ---------------------------------------------------------------------------------------
    def at(self, path: YamlPath) -> Any:
        """What is written at ``path``; None when there is nothing."""
        here: Any = self.data
        for part in path:
            if _not_in(here, part) is not None or (isinstance(here, dict) and part not in here):
                return None
            here = here[part]
        return here

    def section(self, key: str, *, has_name: bool = False) -> dict[str, Any]:
        """The mapping under a top-level key; empty when there is none. ``has_name``: a mere word would be its name."""
        value = self.data.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            meant = f": {{name: {value}}}" if has_name and isinstance(value, str) else ""
            self.bad((key,), f"is {describe(value)}; a mapping is expected{meant}")
            return {}
        return value

    def entries(self, key: str, *, example: str) -> list[Any] | None:
        """The list under a top-level key; None when there is none."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, list):
            self.bad((key,), f"is {describe(value)}; a list is expected: [{example}]")
            return None
        return value

    def known_keys(
        self, path: YamlPath, given: Mapping[str, Any], known: Sequence[str], *, misplaced: Collection[str] = ()
    ) -> None:
        """Notes every key of ``given`` that is not in ``known``; ``misplaced`` are settings of the trials."""
        for key in given:
            if key in misplaced:
                self.bad((*path, key), "is a setting of the trials: it goes under fixed, or under space to be searched")
            elif key not in known:
                hint = did_you_mean(key, known) or "."
                self.bad((*path, key), f"unknown key{hint} Known: {', '.join(known)}")

    def name(self, key: str, known: Sequence[str]) -> str:
        """A top-level name that must be there and be known; '' when it is no string."""
        value = self.data.get(key)
        if value is None:
            self.bad((key,), f"is missing. Known: {', '.join(known)}", place=None if key not in self.data else ...)
        elif self.is_text(value, (key,)) and value not in known:
            self.bad((key,), unknown(value, known))
        return value if isinstance(value, str) else ""

    def is_text(self, value: Any, path: YamlPath) -> TypeGuard[str]:
        """Whether ``value`` is a string; noted if not."""
        if isinstance(value, str):
            return True
        words = self.odd_words(path)
        self.bad(path, f"YAML reads {words[0]}; quote it" if words else f"is {describe(value)}; a string is expected")
        return False


def _not_in(here: Any, part: str | int) -> str | None:
    """Why ``here`` has no place for ``part``, None if it has."""
    if isinstance(part, str):
        return None if isinstance(here, dict) else f"is {describe(here)}; there is no '{part}' in it"
    if isinstance(here, list):
        return None if part < len(here) else f"has {len(here)} entries, counted from 0; there is no {part}"
    return f"is {describe(here)}; there is no entry {part} in it"


def _key(path: YamlPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "file"
