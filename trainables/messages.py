"""How problems are worded: values as YAML has them, near names, numbers that it reads as strings. Standard library."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection
from typing import Any


def show(value: Any) -> str:
    """``value`` as it is written in YAML, strings in quotes; cut short when long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value)
    except ValueError:  # more digits than Python prints
        return "a number of thousands of digits"
    if isinstance(value, float) and "e" in text and "." not in text:
        text = text.replace("e", ".0e")  # as YAML wants it
    return text if len(text) <= 60 else f"{text[:57]}..."


def describe(value: Any) -> str:
    """'a list', 'a mapping', or the value as :func:`show` has it."""
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "a mapping"
    return show(value)


def did_you_mean(word: Any, known: Collection[Any]) -> str:
    """', did you mean 'x'?' when something known is close to ``word``, else ''."""
    near = nearest(word, known)
    return "" if near is None else f", did you mean '{near}'?"


def nearest(word: Any, known: Collection[Any], *, cutoff: float = 0.5) -> str | None:
    """What is known and longer than ``word``, else what is likest to it; None if nothing is like it.

    Args:
        word: what was given.
        known: what there is.
        cutoff: from 0, anything, to 1, ``word`` itself.
    """
    names = [str(name) for name in known]
    longer = [name for name in names if len(str(word)) > 2 and name.startswith(str(word))]
    close = longer or difflib.get_close_matches(str(word), names, n=1, cutoff=cutoff)
    return close[0] if close else None


def unknown(word: Any, known: Collection[Any]) -> str:
    """'mbmv' is unknown, did you mean 'mmbv'? Known: clip, mmbv, ..."""
    return f"{show(word)} is unknown{from_known(word, known)}"


def from_known(word: Any, known: Collection[Any]) -> str:
    """', did you mean 'mmbv'? Known: clip, mmbv, ...', or '. Known: ...', to be appended."""
    names = [name if isinstance(name, str) else show(name) for name in known]
    few = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return (did_you_mean(word, names) or ".") + (f" Known: {few}" if few else "")


def number_problem(value: Any, *, is_int: bool = False) -> str | None:
    """Why ``value`` is no finite number (a whole one if ``is_int``), None if it is; a bool is none."""
    if isinstance(value, str):
        if (written := _float_for_yaml(value)) is not None:
            return f"'{value}' is a string in YAML; write {written}"
        return f"{show(value)} is not a number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{show(value)} is not a number"
    if is_int:
        return None if isinstance(value, int) else f"{show(value)} is not a whole number"
    try:
        is_finite = math.isfinite(value)
    except OverflowError:
        is_finite = False
    return None if is_finite else f"{show(value)} is not finite"


def _float_for_yaml(text: str) -> str | None:
    """'1e-5' -> '1.0e-5': YAML 1.1 wants a point in the mantissa and a sign in the exponent."""
    match = re.fullmatch(r"([+-]?\d+)(\.\d*)?(?:[eE]([+-]?)(\d+))?", text.strip(), re.ASCII)
    if match is None:
        return None
    whole, fraction, sign, exponent = match.groups()
    if exponent is None:
        return whole + (fraction or "")
    return f"{whole}{fraction if fraction and fraction != '.' else '.0'}e{sign or '+'}{exponent}"
