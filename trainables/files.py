"""Files that are whole or not there, and what is in them: write then rename, checksums. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Replaces ``path`` as a whole by ``data``, text as UTF-8; see :func:`replacing`.

    Raises:
        OSError: the file cannot be written; ``path`` is as it was.
    """
    content = data.encode() if isinstance(data, str) else data
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file to write to, which replaces ``path`` as a whole at the end, and goes if there was an error.

    It lies beside ``path`` as ``.<name>.<token>.tmp`` (what a killed process leaves behind), is on disk before it
    takes the name, and has the mode of any new file. The folder is made if there is none.

    Raises:
        OSError: the file cannot be written; ``path`` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.touch(exist_ok=False)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        os.chmod(temporary, mode)  # a writer may have put a file of its own there, readable for us alone
        _sync(temporary, os.O_RDWR)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # of a disk that is gone, say
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(temporary)):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error  # a write does not name its file
        raise
    with contextlib.suppress(OSError):  # not every file system does that for a folder
        _sync(path.parent, os.O_RDONLY)


def unfinished(folder: Path) -> Iterator[Path]:
    """What processes that were killed had begun to write into a folder.

    Those are the files of :func:`replacing`, and ``.tmp`` with six characters, which safetensors writes first.
    """
    for pattern in (".*.tmp", ".tmp??????"):
        yield from folder.glob(pattern)


def append(path: str | Path, data: bytes) -> None:
    """Adds ``data`` to the end of a file that is there: all of it is on disk when this returns, or none is in the file.

    Raises:
        OSError: the file cannot be written; it is as it was.
    """
    handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        size = os.fstat(handle).st_size
        try:
            left = memoryview(data)
            while left:  # a full disk takes a part
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        except OSError as error:
            os.ftruncate(handle, size)
            raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from None
    finally:
        os.close(handle)


def drop_torn_line(path: Path) -> None:
    """Cuts a last line without its newline, which a kill left behind; does nothing if there is none."""
    data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):
        write_atomic(path, data[: data.rfind(b"\n") + 1])


def check_there(path: Path) -> None:
    """Returns if ``path`` is there.

    Raises:
        OSError: it is gone: what is written now would begin another in its place, or below a mount point.
    """
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def checksum(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_hash(path: Path) -> str:
    """:func:`checksum`, remembered while the file's size and mtime stay."""
    facts = path.stat()
    return _file_hash(str(path), facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_hash(path: str, size: int, mtime_ns: int) -> str:
    return checksum(Path(path))


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
