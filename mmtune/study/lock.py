"""One writer at a time: who holds a study's folder or that of a training, and whether anybody does."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from mmtune.records import StudyFolder


class StudyBusyError(ValueError):
    """Another process writes this folder."""


@contextlib.contextmanager
def study_lock(folder: StudyFolder) -> Iterator[None]:
    """Holds the folder, of a study or of one training, for this process; the kernel drops it when the process dies.

    Raises:
        StudyBusyError: another process has it; the message names it.
        ValueError: the folder's file system has no locks.
        OSError: the lock's file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(locked(folder.lock, waits=False))
        except BlockingIOError:
            raise StudyBusyError(f"{folder.root}: being written by {lock_owner(folder) or 'another process'}") from None
        try:
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps({"pid": os.getpid(), "host": os.uname().nodename}).encode())
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), str(folder.lock)) from None
        yield


@contextlib.contextmanager
def locked(path: Path, *, waits: bool = True) -> Iterator[int]:
    """Holds the file at ``path`` for this process, made if there is none; yields its descriptor.

    Args:
        path: whoever holds it may replace or remove it, as the last thing before letting go.
        waits: for whoever has it now.

    Raises:
        BlockingIOError: somebody has it, and ``waits`` is False.
        ValueError: its file system has no locks.
        OSError: it cannot be written.
    """
    how = fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, how)
            except BlockingIOError:
                raise
            except OSError as error:  # NFSv3 without its lock manager, Lustre without the mount option flock
                raise ValueError(
                    f"{path.parent}: its file system has no locks ({error.strerror}), which keep a second process "
                    "from writing; mount it with them, or take another folder"
                ) from None
            if _is_at(handle, path):
                yield handle
                return
        finally:
            os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """False once somebody who held it has put another file there, or none."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def lock_owner(folder: StudyFolder) -> str | None:
    """'process 123 on host' while a process writes the study, None when none does; writes nothing."""
    try:
        handle = os.open(folder.lock, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            owner = json.loads(os.pread(handle, 4096, 0))
        except ValueError:
            return "another process"
        return f"process {owner['pid']} on {owner['host']}"
    except OSError:  # a file system without locks, where none can be held
        return None
    finally:
        os.close(handle)
    return None
