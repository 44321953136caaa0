"""Content-addressed folders for what is computed once: tokens, images, frozen features.

A folder's name is the hash of everything that went into it, so a changed source, tokenizer or setting
makes a new folder and an old one is never wrong. One process builds under a file lock (the kernel
drops it when the process dies) into a temporary folder, which is renamed into place when complete:
a folder that exists is whole. Its files are compared with their checksums when it is first opened, and again
whenever one has another size or time than it had then; a damaged folder is built anew.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trainables.data.cache.books import SHORTEST_WAIT, book_made, book_use, book_wait, booking, making
from trainables.errors import StorageError
from trainables.files import checksum, write_atomic

FORMAT = 5  # raise when what a builder writes changes


def cache_root() -> Path:
    """``$MMTUNE_CACHE``, or ``~/.cache/mmtune``."""
    return Path(os.environ.get("MMTUNE_CACHE") or Path.home() / ".cache" / "mmtune")


Build = Callable[[Path], Mapping[str, Any]]
SHARDS = "shards"  # the kind of folders that are parts of another


def build_once(kind: str, key: Mapping[str, Any], build: Build) -> Path:
    """The folder for ``key``, built by ``build`` if no process has done so yet; others wait.

    Args:
        kind: 'tokens', 'images', 'features', ...; the first level of the cache.
        key: JSON-able; everything the content depends on.
        build: writes files into the folder it is given and returns facts for ``meta.json``: ``about`` says what it
            is when the cache is listed, ``rows`` how many it holds, ``seconds`` what it took if that is not what this
            call took, ``sources`` the folders that it was made from with their seconds.

    Raises:
        ValueError: the cache cannot be written.
    """
    folder = _build(kind, key, build, waits=True)
    assert folder is not None
    if kind != SHARDS:  # which the whole counts
        book_use(folder.name, meta(folder))
    return folder


def build_if_free(kind: str, key: Mapping[str, Any], build: Build) -> Path | None:
    """As :func:`build_once`, but None while another process builds it."""
    return _build(kind, key, build, waits=False)


def _build(kind: str, key: Mapping[str, Any], build: Build, *, waits: bool) -> Path | None:
    folder = folder_of(kind, key)
    if folder.exists() and _is_intact(folder):
        return folder
    lock = _lock(folder)
    with _cache_errors():
        folder.parent.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        try:
            lock.acquire(blocking=waits)
        except Timeout:
            return None
        waited = time.perf_counter() - began
    try:
        if folder.exists():
            if _is_intact(folder):
                if waited > SHORTEST_WAIT:
                    book_wait(str(meta(folder).get("about", kind)), waited)
                return folder
            with _cache_errors():
                _remove(folder)
        for stale in _stale(folder):  # we hold the lock: its builder is dead
            shutil.rmtree(stale, ignore_errors=True)
        temporary = folder.with_name(f"{folder.name}.tmp-{uuid.uuid4().hex[:8]}")
        with _cache_errors():
            temporary.mkdir()
        try:
            with making() as made, booking() as book, _cache_errors(of_source=True):
                facts = build(temporary)
                sums = {file.name: checksum(file) for file in sorted(temporary.iterdir())}
                content = {"key": {"format": FORMAT, **key}, "checksums": sums, "seconds": made.seconds, **facts}
                content["sources"] = book.used | content.get("sources", {})
                (temporary / "meta.json").write_text(json.dumps(content, indent=1))
                for file in temporary.iterdir():
                    with file.open("rb+") as handle:
                        os.fsync(handle.fileno())
                temporary.rename(folder)
                seconds = made.seconds
            book_made(facts, seconds)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _mark_intact(folder)
    finally:
        lock.release()
    return folder


def folder_of(kind: str, key: Mapping[str, Any]) -> Path:
    """Where the content of ``key`` lies, or would lie."""
    text = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    return cache_root() / kind / hashlib.sha256(text.encode()).hexdigest()[:20]


@contextmanager
def _cache_errors(*, of_source: bool = False) -> Iterator[None]:
    """Says of errors that they are the cache's; with ``of_source`` some are of what it is made from, and stay."""
    try:
        yield
    except OSError as error:
        if of_source and error.errno not in (None, errno.ENOSPC, errno.EDQUOT, errno.EROFS):  # None: numpy cut short
            raise
        reason = error.strerror or error
        raise StorageError(f"cache folder {cache_root()} cannot be written ({reason}); set MMTUNE_CACHE") from None


def meta(folder: Path) -> dict[str, Any]:
    """What ``build`` returned for the folder."""
    return json.loads((folder / "meta.json").read_text())


def _lock(folder: Path) -> FileLock:
    return FileLock(f"{folder}.lock")


def _stale(folder: Path) -> list[Path]:
    return list(folder.parent.glob(f"{folder.name}.tmp-*"))


# --- checksums --------------------------------------------------------------------------------------
def _mark(folder: Path) -> Path:
    """The file that says with which sizes and times the folder's files were compared; its own time is the last use."""
    return folder.with_name(f"{folder.name}.intact")


def _stats(folder: Path) -> dict[str, list[int]]:
    stats = {file.name: file.stat() for file in sorted(folder.iterdir())}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def _mark_intact(folder: Path) -> None:
    with suppress(OSError):  # a cache may be read-only: then each process compares for itself
        write_atomic(_mark(folder), json.dumps(_stats(folder)))


def _is_intact(folder: Path) -> bool:
    """Whether the files are as they were built; a warning names the first that is not."""
    stats = _stats(folder)
    with suppress(OSError, ValueError):
        if json.loads(_mark(folder).read_text()) == stats:
            with suppress(OSError):
                os.utime(_mark(folder))
            return True
    damaged = first_damage(folder)
    if damaged is not None:
        warnings.warn(f"cache: {folder / damaged} is damaged; it is built again", stacklevel=3)
        return False
    _mark_intact(folder)
    return True


def first_damage(folder: Path) -> str | None:
    """The first file of a cached folder that is not as it was built; None if all are."""
    try:
        sums = meta(folder)["checksums"]
    except (OSError, ValueError, KeyError):
        return "meta.json"
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file() or checksum(path) != expected:
            return name
    return None


# --- what is there ----------------------------------------------------------------------------------
_NO_CACHES = ("studies",)  # folders in which drivers work


@dataclass(frozen=True)
class Entry:
    """One folder of the cache."""

    kind: str
    path: Path
    about: str  # for people: dataset, encoder, view
    num_bytes: int
    used: float  # when it was last opened, seconds since 1970


def entries() -> list[Entry]:
    """All of the cache, largest first; what dead processes left half-built is of kind 'unfinished'."""
    found = []
    for folder in sorted(cache_root().glob("*/*")):
        if not folder.is_dir() or folder.parent.name in _NO_CACHES:
            continue
        kind = "unfinished" if ".tmp-" in folder.name else folder.parent.name
        files = [file.stat() for file in folder.iterdir() if file.is_file()]
        mark = _mark(folder)
        used = (mark if mark.exists() else folder).stat().st_mtime
        try:
            about = str(meta(folder).get("about", ""))
        except (OSError, ValueError):
            about = ""
        found.append(Entry(kind, folder, about, sum(stat.st_size for stat in files), used))
    return sorted(found, key=lambda entry: -entry.num_bytes)


def remove(folder: Path) -> bool:
    """Deletes a folder of the cache; False if a process builds it right now. Who has it open keeps it until they end.

    Raises:
        ValueError: the cache cannot be written.
    """
    whole = folder.with_name(folder.name.split(".tmp-")[0])
    with _cache_errors():
        try:
            with _lock(whole).acquire(blocking=False):
                _remove(folder)
        except Timeout:
            return False
    return True


def _remove(folder: Path) -> None:
    """First out of sight under a temporary name, so that nobody meets half of it."""
    hidden = folder if ".tmp-" in folder.name else folder.with_name(f"{folder.name}.tmp-{uuid.uuid4().hex[:8]}")
    if hidden != folder:
        folder.rename(hidden)
    _mark(folder).unlink(missing_ok=True)
    shutil.rmtree(hidden)
