"""``constraints:``, what a trial may cost at most: {peak_memory_gib: <= 12}."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmtune.records import COSTS
from mmtune.spec.document import Document
from trainables.messages import number_problem, show, unknown

LIMITED = tuple(name for name in COSTS if name != "epochs")
_LIMIT = re.compile(r"<=\s*(\S+)")


def read_constraints(document: Document) -> Mapping[str, float]:
    """Cost -> the most that a trial may have of it; empty without the section."""
    found: dict[str, float] = {}
    for name, value in document.section("constraints").items():
        path = ("constraints", name)
        if name == "epochs":
            document.bad(path, "is what a trial trains at most: fixed.epochs")
        elif name not in LIMITED:
            document.bad(path, f"no cost of a trial: {unknown(name, LIMITED)}")
        elif (limit := _limit(value)) is None:
            document.bad(path, f"is {show(value)}; write '<= 12'")
        elif limit <= 0:
            document.bad(path, f"{limit:g} leaves nothing; a limit is above 0")
        else:
            found[name] = limit
    return found


def _limit(value: Any) -> float | None:
    match = _LIMIT.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        limit = None if match is None else float(match[1])
    except ValueError:
        return None
    return None if limit is None or number_problem(limit) else limit
