"""``--set key=value``: which place of a search file a dotted key means. Keys of the space contain dots themselves."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from mmtune.spec.document import Document
from mmtune.spec.values import Values
from trainables.messages import did_you_mean
from trainables.yamltree import Tree, YamlPath


def override_texts(values: Mapping[str, Any]) -> list[str]:
    """``key=value`` of each, the value in YAML, as ``--set`` takes it.

    Raises:
        ValueError: a value that YAML cannot say.
    """
    texts = []
    for key, value in values.items():
        plain = Values(value)
        for path, message, _ in plain.problems:
            raise ValueError(f"--set {'.'.join(map(str, (key, *path)))}: {message}")
        text = yaml.safe_dump(plain.data, default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True)
        texts.append(f"{key}=" + text.removesuffix("\n").removesuffix("\n..."))
    return texts


def apply_override(document: Document, text: str) -> None:
    """Applies one ``key=value`` to a search file; problems are noted under the override."""
    key, sign, value = (part.strip() for part in text.partition("="))
    place = f"--set {text}"
    if not sign or "" in key.split("."):
        document.bad((), "write key=value, such as budget.trials=4", key=key or "=", place=place)
    elif document.is_readable:
        tree = Tree(value)
        for _, message, _ in tree.problems:
            document.bad((), message, key=key, place=place)
        path = _target(document, key, tree.data, place) if not tree.problems else None
        if path is not None and document.put(path, tree.data, place):
            document.words.update({path + deeper: word for deeper, word in tree.words.items()})


def _target(document: Document, key: str, value: Any, place: str) -> YamlPath | None:
    """The path that a dotted key means; None, with a problem noted, if it means none."""
    head, _, rest = key.partition(".")
    if not rest or head == "fixed":
        return (head, rest) if rest else (head,)
    if head in ("try_first", "objectives"):
        index, _, flat = rest.partition(".")
        if not _is_index(index):
            document.bad((head,), f"'{index}' is not the number of an entry: {head}.0, {head}.1, ...", place=place)
            return None
        return (head, int(index), flat) if flat else (head, int(index))
    if head == "family":
        return (head, *_in_domain(rest))
    if head != "space":
        return (head, *rest.split("."))
    searched = document.data.get("space")
    names = list(searched) if isinstance(searched, dict) else []
    matches = [name for name in names if rest == name or rest.startswith(f"{name}.")]
    if matches:
        name = max(matches, key=len)
        return (head, name, *_in_domain(rest[len(name) + 1 :]))
    if isinstance(value, dict | list):
        return (head, rest)
    document.bad((head, rest), f"is not in space{did_you_mean(rest, names)}", place=place)
    return None


def _is_index(text: str) -> bool:
    return re.fullmatch("[0-9]{1,6}", text) is not None


def _in_domain(tail: str) -> YamlPath:
    """'low', '0.when.uda.mode', 'choices.1' as the rest of a path."""
    first, _, rest = tail.partition(".")
    if _is_index(first):
        return (int(first), *_in_domain(rest))
    if first == "when":
        return (first, rest) if rest else (first,)
    return tuple(int(part) if _is_index(part) else part for part in tail.split(".") if part)
