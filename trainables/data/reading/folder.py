"""A dataset's folder: what is in it, what is missing, and which of its pictures can be used."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath


def data_folder(dataset: str, data_dir: str | None) -> Path:
    """The folder that a dataset is read from.

    Raises:
        ValueError: none was given, or it is not there.
    """
    if data_dir is None:
        raise ValueError(f"dataset {dataset} needs --data DIR")
    root = Path(data_dir)
    if not root.is_dir():
        raise ValueError(f"dataset {dataset}: --data {data_dir}: no such folder")
    return root


def no_folder(dataset: str, data_dir: str | None) -> None:
    """For embedded datasets.

    Raises:
        ValueError: a folder was given.
    """
    if data_dir is not None:
        raise ValueError(f"dataset {dataset} is embedded and reads no folder, but --data {data_dir} was given")


def first_there(root: Path, names: Iterable[str]) -> Path | None:
    """The first of ``names`` that exists below ``root``."""
    return next((path for path in (root / name for name in names) if path.exists()), None)


def missing(dataset: str, root: Path, what: str, layouts: Iterable[str]) -> ValueError:
    """The error to raise where a file is not there; ``layouts`` says what the folder may look like."""
    return ValueError(f"dataset {dataset}: {root} has no {what}. Known layouts: {' | '.join(layouts)}")


def unsafe(name: str) -> str | None:
    """Why ``name``, read from a file, must not be used as a path below a folder; None if it may."""
    if not name or "\0" in name:
        return "is no path"
    if PurePosixPath(name).is_absolute() or os.path.isabs(name):
        return "is absolute"
    return "leaves the folder" if ".." in PurePosixPath(name.replace("\\", "/")).parts else None


class Pictures:
    """Whether picture files can be used, each looked up once.

    Args:
        root: what names are relative to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._problems: dict[str, str | None] = {}

    def problem(self, name: str) -> str | None:
        """Why the picture cannot be used; None if it is there and has bytes."""
        if name not in self._problems:
            self._problems[name] = self._look(name)
        return self._problems[name]

    def first(self, stem: str, suffixes: Iterable[str] = (".jpg", ".jpeg", ".png", ".webp")) -> str | None:
        """``stem`` with the first suffix under which there is a usable picture; None if there is none."""
        return next((name for name in (stem + suffix for suffix in suffixes) if self.problem(name) is None), None)

    def _look(self, name: str) -> str | None:
        reason = unsafe(name)
        if reason is not None:
            return f"picture {name!r} {reason}"
        try:
            found = os.stat(self.root / name)
        except OSError as error:
            known = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
            return f"no picture {name}" if error.errno in known else f"picture {name}: {error.strerror}"
        if not stat.S_ISREG(found.st_mode):
            return f"picture {name} is no file"
        return None if found.st_size else f"picture {name} is empty"
