"""A dataset's folder: what is in it, what is missing, and which of its pictures can be used."""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit


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
    wanted = {word.rpartition("/")[2].casefold() for word in re.findall(r"[\w./-]+\.\w+", what)}
    near = sorted(path.name for path in root.iterdir() if path.name.casefold() in wanted) if root.is_dir() else []
    hint = f" (but {near[0]}: rename it)" if near else ""
    return ValueError(f"dataset {dataset}: {root} has no {what}{hint}. Known layouts: {' | '.join(layouts)}")


def unsafe(name: str) -> str | None:
    """Why ``name``, read from a file, must not be used as a path below a folder; None if it may."""
    if not name or "\0" in name:
        return "is no path"
    if re.match(r"[a-z][a-z0-9+.-]+://", name, re.IGNORECASE):
        return "is an address, not a file below the folder: fetch it, and write its path here"
    if PurePosixPath(name).is_absolute() or os.path.isabs(name) or re.match(r"[A-Za-z]:[\\/]|\\", name):
        return "is absolute"
    return "leaves the folder" if ".." in PurePosixPath(name.replace("\\", "/")).parts else None


class FolderFiles:
    """Finds files below a folder by names that another system has written.

    A name is looked up as it stands, then with / for \\, then with no heed to capitals or to how accents are
    composed, where only one file is meant; of a ``file:`` address that is below the folder, its path there.

    Args:
        root: what names are relative to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._entries: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> str:
        """The file's path below the folder with /; ``name`` itself where there is none, or it must not be used."""
        below = self._from_address(name)
        if unsafe(below) is not None:
            return name
        for spelling in (below, below.replace("\\", "/")):
            if self._is_there(spelling):
                return spelling
        return self._alike(below.replace("\\", "/")) or name

    def _from_address(self, name: str) -> str:
        if not name.lower().startswith("file:"):
            return name
        path = re.sub(r"^/(?=[A-Za-z]:)", "", unquote(urlsplit(name).path))
        root = self.root.resolve().as_posix() + "/"
        return path.removeprefix(root) if path.startswith(root) else name

    def _is_there(self, name: str) -> bool:
        try:
            return (self.root / name).exists()
        except OSError:  # a name that is too long
            return False

    def _alike(self, name: str) -> str | None:
        found = ""
        for part in PurePosixPath(name).parts:
            near = self._listed(found).get(_folded(part), [])
            exact = [entry for entry in near if entry == part] or near
            if len(exact) != 1:
                return None
            found = f"{found}/{exact[0]}" if found else exact[0]
        return found or None

    def _listed(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._entries:
            found: dict[str, list[str]] = {}
            try:
                names = os.listdir(self.root / folder)
            except OSError:
                names = []
            for entry in names:
                found.setdefault(_folded(entry), []).append(entry)
            self._entries[folder] = found
        return self._entries[folder]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


_MAY_BE_MISSING: ContextVar[bool] = ContextVar("pictures_may_be_missing", default=False)


@contextmanager
def pictures_may_be_missing(may: bool) -> Iterator[None]:
    """Meanwhile rows are read whose pictures are not there, where ``may``: their names tell what is known of them."""
    before = _MAY_BE_MISSING.set(may)
    try:
        yield
    finally:
        _MAY_BE_MISSING.reset(before)


class Pictures:
    """Whether picture files can be used, each looked up once.

    Args:
        root: what names are relative to.
        may_be_missing: one that is not there can be used; None is as :func:`pictures_may_be_missing` says.
    """

    def __init__(self, root: Path, *, may_be_missing: bool | None = None) -> None:
        self.root = root
        self._files = FolderFiles(root)
        self._may_be_missing = _MAY_BE_MISSING.get() if may_be_missing is None else may_be_missing
        self._known: dict[str, tuple[str, str | None]] = {}

    def find(self, name: str) -> tuple[str, str | None]:
        """The picture's path below the folder, as it is spelled there, and why it cannot be used: None if it can."""
        if name not in self._known:
            path = self._files.find(name)
            self._known[name] = (path, self._look(path))
        return self._known[name]

    def problem(self, name: str) -> str | None:
        """Why the picture cannot be used; None if it is there and has bytes."""
        return self.find(name)[1]

    def first(self, stem: str, suffixes: Iterable[str] = (".jpg", ".jpeg", ".png", ".webp")) -> str | None:
        """``stem`` with the first suffix under which there is a usable picture; None if there is none."""
        found = (self.find(stem + suffix) for suffix in suffixes)
        return next((path for path, problem in found if problem is None), None)

    def _look(self, name: str) -> str | None:
        reason = unsafe(name)
        if reason is not None:
            return f"picture {name!r} {reason}"
        try:
            found = os.stat(self.root / name)
        except OSError as error:
            known = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
            if self._may_be_missing and error.errno in known:
                return None
            return f"no picture {name}" if error.errno in known else f"picture {name}: {error.strerror}"
        if not stat.S_ISREG(found.st_mode):
            return f"picture {name} is no file"
        return None if found.st_size else f"picture {name} is empty"
