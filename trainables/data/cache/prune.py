"""What of the cache is to be deleted: what was not opened for long, what is named, what killed processes left."""

from __future__ import annotations

import time
from collections.abc import Sequence

from trainables.data.cache.store import Entry


def choose_entries(
    entries: Sequence[Entry], *, days: float | None = None, folders: Sequence[str] = (), everything: bool = False
) -> list[Entry]:
    """Those of ``entries`` to delete; what is unfinished is always among them.

    Args:
        entries: all of the cache.
        days: what was not opened for longer; None is none for its age.
        folders: beginnings of names of folders.
        everything: all of it.

    Raises:
        ValueError: no folder has such a name.
    """
    for name in folders:
        if not name or not any(entry.path.name.startswith(name) for entry in entries):
            raise ValueError(f"--folder {name}: the cache has no such folder; see: mmtune data list")
    oldest = None if days is None else time.time() - days * 86_400
    return [
        entry
        for entry in entries
        if everything
        or entry.kind == "unfinished"
        or (oldest is not None and entry.used < oldest)
        or entry.path.name.startswith(tuple(folders))
    ]
