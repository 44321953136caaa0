"""One writer at a time: who holds a study folder, and whether anybody does."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator

from mmtune.records import StudyFolder


class StudyBusyError(ValueError):
    """Another process writes this study."""


@contextlib.contextmanager
def study_lock(folder: StudyFolder) -> Iterator[None]:
    """Holds the study for this process; the kernel drops it when the process dies, SIGKILL included.

    Raises:
        StudyBusyError: another process has it; the message names it.
        ValueError: the folder's file system has no locks.
        OSError: the lock's file cannot be written.
    """
    handle = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyBusyError(f"{folder.root}: being written by {lock_owner(folder) or 'another process'}") from None
        except OSError as error:  # NFSv3 without its lock manager, Lustre without the mount option flock
            raise ValueError(
                f"{folder.root}: its file system has no locks ({error.strerror}), which keep a second process from "
                "writing; mount it with them, or take another --storage"
            ) from None
        try:
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps({"pid": os.getpid(), "host": os.uname().nodename}).encode())
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), str(folder.lock)) from None
        yield
    finally:
        os.close(handle)


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
