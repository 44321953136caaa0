"""Content-addressed folders for what is computed once: tokens, images, frozen features.

A folder's name is the hash of everything that went into it, so a changed source, tokenizer or setting
makes a new folder and an old one is never wrong. One process builds under a file lock (the kernel
drops it when the process dies) into a temporary folder, which is renamed into place when complete:
a folder that exists is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

FORMAT = 1  # raise when what a builder writes changes


def cache_root() -> Path:
    """``$MMTUNE_CACHE``, or ``~/.cache/mmtune``."""
    return Path(os.environ.get("MMTUNE_CACHE") or Path.home() / ".cache" / "mmtune")


def build_once(kind: str, key: Mapping[str, Any], build: Callable[[Path], Mapping[str, Any]]) -> Path:
    """The folder for ``key``, built by ``build`` if no process has done so yet; others wait.

    Args:
        kind: 'tokens', 'images', 'features', ...; the first level of the cache.
        key: JSON-able; everything the content depends on.
        build: writes files into the folder it is given and returns facts for ``meta.json``.

    Raises:
        ValueError: the cache cannot be written.
    """
    text = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    folder = cache_root() / kind / hashlib.sha256(text.encode()).hexdigest()[:20]
    if folder.exists():
        return folder
    lock = FileLock(f"{folder}.lock")
    with _cache_errors():
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        if folder.exists():
            return folder
        for stale in folder.parent.glob(f"{folder.name}.tmp-*"):  # we hold the lock: its builder is dead
            shutil.rmtree(stale, ignore_errors=True)
        temporary = folder.with_name(f"{folder.name}.tmp-{uuid.uuid4().hex[:8]}")
        with _cache_errors():
            temporary.mkdir()
        try:
            facts = build(temporary)
            (temporary / "meta.json").write_text(json.dumps({"key": json.loads(text), **facts}, indent=1))
            for file in temporary.iterdir():
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
            temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    finally:
        lock.release()
    return folder


@contextmanager
def _cache_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"cache folder {cache_root()} cannot be written ({reason}); set MMTUNE_CACHE") from None


def meta(folder: Path) -> dict[str, Any]:
    """What ``build`` returned for the folder."""
    return json.loads((folder / "meta.json").read_text())


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes; remembered while its size and mtime stay."""
    stat = path.stat()
    return _file_hash(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_hash(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
