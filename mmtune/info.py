"""study.json: which shape it has, and reading it. Only the standard library.

What is wrong with it is said before anything is read beside it or written: a study folder may have been edited, cut
short by a full disk, or made by a later mmtune.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 1  # of a study folder; raise it when an older mmtune would misread a new one

_SHAPE: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "study": (str,),
    "budget": (dict,),
    "sessions": (list,),
    "objectives": (list,),
    "params": (list,),
    "retried": (list,),
    "data_dir": (str, type(None)),
    "data": (dict,),
    "plan": (dict,),
}
_MODES = ("max", "min")
_NEEDED = ("budget", "sessions", "objectives", "data_dir")  # to go on with a study


def read_info(path: Path, *, is_whole: bool = True) -> dict[str, Any]:
    """What study.json says.

    Args:
        path: the file.
        is_whole: whether all must be there that going on with the study takes.

    Raises:
        ValueError: it is empty, no JSON, of another shape, or of a later format.
    """
    info = _parsed(path)
    if not isinstance(info, dict):
        raise ValueError(f"{path}: holds {type(info).__name__}, not an object")
    for key, types in _SHAPE.items():
        if key in info and (not isinstance(info[key], types) or isinstance(info[key], bool)):
            raise ValueError(f"{path}: {key} is {type(info[key]).__name__}, not {types[0].__name__}")
    if info.get("format", FORMAT) > FORMAT:
        raise ValueError(
            f"{path}: the study is of format {info['format']}, this mmtune reads up to {FORMAT}; install a later one"
        )
    missing = [key for key in _NEEDED if is_whole and key not in info]
    if missing:
        raise ValueError(f"{path}: has no {', '.join(missing)}; it is damaged")
    for problem in _odd_parts(info):
        raise ValueError(f"{path}: {problem}")
    return info


def _parsed(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        what = "is empty" if path.stat().st_size == 0 else f"not valid JSON ({error})"
        raise ValueError(f"{path}: {what}") from None


def _odd_parts(info: Mapping[str, Any]) -> list[str]:
    problems = []
    for goal in info.get("objectives", ()):
        if not isinstance(goal, dict) or not isinstance(goal.get("metric"), str) or goal.get("mode") not in _MODES:
            problems.append(f"objectives has {goal!r}, not {{metric: ..., mode: max or min}}")
    for session in info.get("sessions", ()):
        if not isinstance(session, dict):
            problems.append(f"sessions has {session!r}, not an object")
        elif not all(isinstance(session.get(name, 0.0), int | float) for name in ("seconds", "idle_device_seconds")):
            problems.append("sessions has seconds that are no number")
    limits = info.get("budget", {})
    problems += [f"budget.{name} is no number" for name in limits if not isinstance(limits[name], int | float | None)]
    if "budget" in info and all(limit is None for limit in limits.values()):
        problems.append("budget has no limit")
    if not all(isinstance(value, int | float) for value in info.get("plan", {}).values()):
        problems.append("plan has what is no number")
    for key in ("params", "retried"):
        if not all(isinstance(name, str) for name in info.get(key, ())):
            problems.append(f"{key} has what is no name")
    return problems
