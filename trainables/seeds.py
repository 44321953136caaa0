"""The one function from which every seed of a trial derives."""

from __future__ import annotations

import hashlib
import json


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed for what ``names`` say, e.g. ``derive_seed(config.seed, "shuffle", epoch)``.

    SHA-256 of the JSON list, so it is the same in every process and version, and names cannot run into
    each other: ("ab",), ("a", "b") and (1,), ("1",) give different seeds.

    Returns:
        0 .. 2^63 - 1, which torch, numpy and random all take.
    """
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
