"""A data folder is what lies below it: a symbolic link that leads out of it is refused, unless a setting allows it.

Data come from elsewhere: an unpacked archive may hold a link to anything that its user can read, and pictures and texts
of it would end up in caches, predictions and exported models.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

VARIABLE, FOLLOW = "MMTUNE_LINKS", "follow"  # of the environment


def check_links(root: Path, paths: Iterable[Path]) -> None:
    """Returns if every path lies below ``root`` when its links are followed; ``root`` itself may be a link.

    Raises:
        ValueError: the first that does not, and where it leads; or a value of the setting that there is not.
    """
    setting = os.environ.get(VARIABLE, "")
    if setting == FOLLOW:
        return
    if setting:
        raise ValueError(f"{VARIABLE}: '{setting}' is unknown; write {FOLLOW}, or unset it")
    top = os.path.realpath(root)
    folder_of = cache(os.path.realpath)  # files share few
    for path in paths:
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(folder_of(path.parent), path.name)
        if os.path.commonpath([top, real]) != top:
            raise ValueError(
                f"{path}: leads out of the data folder, to {real}; if that is meant, set {VARIABLE}={FOLLOW}"
            )
