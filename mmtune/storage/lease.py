"""One driver for each study in object storage: a lease, an object that its owner writes again every few seconds.

Object stores have no locks, so this is Fischer's algorithm (Lamport 1987): who finds no lease writes one, waits longer
than a write may take, and owns the study if the lease is still its own. A write that took longer begins again. A lease
that has not changed for ``EXPIRES`` seconds by the observer's own clock is of a driver that is dead, and may be taken
over; no two clocks are compared. A driver that could not renew looks before it writes anything, and stops if another
has taken over.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmtune.records import now
from mmtune.storage.store import Store
from mmtune.study.lock import StudyBusyError

NAME = "lease.json"
RENEWED = 5.0  # seconds between two renewals
EXPIRES = 30.0  # seconds without one after which an owner is dead
_SETTLES = 3.0  # seconds in which two that begin at once see each other; a write must take less than half
_TRIES = 10


class Lease:
    """The lease of the study in ``store``, held until :meth:`release`.

    Args:
        store: the study's folder.
        say: receives a line when another's lease is waited for.

    Raises:
        StudyBusyError: another driver holds it.
        OSError: the store does not answer, or each write takes too long.
    """

    def __init__(
        self, store: Store, say: Callable[[str], None], *, renewed: float = RENEWED, expires: float = EXPIRES,
        settles: float = _SETTLES,
    ) -> None:  # fmt: skip
        self._store, self._token, self._count = store, uuid.uuid4().hex, 0
        self._expires, self._settles, self._lock = expires, settles, threading.Lock()
        self._owner = _me()
        self._wait_until_free(say)
        tries = 1
        while not self._settle():
            if tries == _TRIES:
                raise OSError(
                    f"{store.url}: a small object takes over {settles / 2:.3g} s to write: two drivers could not see "
                    "each other"
                )
            tries += 1
            self._wait_until_free(say)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, args=(renewed,), name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Returns if the lease is ours; asks the store if it could not be renewed for long.

        Raises:
            StudyBusyError: another driver has taken the study over.
            OSError: the store does not answer.
        """
        if time.monotonic() - self._renewed_at > self._expires / 2:
            self._renew()

    def release(self) -> None:
        """Lets go of the study."""
        self._over.set()
        self._thread.join()
        with self._lock:
            if (_read(self._store) or {}).get("token") == self._token:
                self._store.delete(NAME)

    def _wait_until_free(self, say: Callable[[str], None]) -> None:
        found, since = _read(self._store), time.monotonic()
        if found is None or found["token"] == self._token or _is_dead_here(found):
            return
        if _is_here(found):
            raise StudyBusyError(f"{self._store.url}: being written by {_name(found)}")
        say(f"{self._store.url}: {_name(found)} held it last; looking for {self._expires:.0f} s whether that lives")
        while time.monotonic() - since < self._expires:
            time.sleep(min(1.0, self._expires / 10))
            other = _read(self._store)
            if other is None or other["token"] == self._token:
                return
            if other != found:
                raise StudyBusyError(f"{self._store.url}: being written by {_name(other)}")

    def _settle(self) -> bool:
        """Whether the lease is ours."""
        began = time.monotonic()
        self._write()
        if time.monotonic() - began > self._settles / 2:
            return False
        time.sleep(self._settles)
        found = _read(self._store)
        if found is not None and found["token"] != self._token:
            raise StudyBusyError(f"{self._store.url}: being written by {_name(found)}")
        return found is not None

    def _write(self) -> None:
        self._count += 1
        content = {"token": self._token, "count": self._count, "time": now(), **self._owner}
        self._store.put(NAME, json.dumps(content, sort_keys=True).encode())
        self._renewed_at = time.monotonic()

    def _renew(self) -> None:
        with self._lock:
            found = _read(self._store)
            if found is None or found["token"] != self._token:
                who = "nobody" if found is None else _name(found)
                raise StudyBusyError(f"{self._store.url}: no longer ours, it was taken over by {who}")
            self._write()

    def _keep(self, every: float) -> None:
        while not self._over.wait(every):
            try:
                self._renew()
            except StudyBusyError:
                self._renewed_at = float("-inf")  # the next check says so
                return
            except OSError:
                continue


def lease_owner(store: Store) -> str | None:
    """'process 123 on host' of the lease that is there, which may be a dead one's; None without one."""
    found = _read(store)
    return None if found is None or _is_dead_here(found) else f"{_name(found)}, at {found['time']}"


def _read(store: Store) -> dict[str, Any] | None:
    data = store.get(NAME)
    return None if data is None else json.loads(data)


def _me() -> dict[str, Any]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    place = boot.read_text().strip() if boot.is_file() else "?"
    space = os.stat("/proc/self/ns/pid").st_ino if Path("/proc/self/ns/pid").exists() else 0
    return {"pid": os.getpid(), "host": os.uname().nodename, "boot": f"{place}-{space}"}


def _is_here(found: dict[str, Any]) -> bool:
    """Whether its process lives on this machine, among the processes that we see."""
    return found["boot"] == _me()["boot"] and not _is_dead_here(found)


def _is_dead_here(found: dict[str, Any]) -> bool:
    if found["boot"] != _me()["boot"]:
        return False
    try:
        os.kill(found["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _name(found: dict[str, Any]) -> str:
    return f"process {found['pid']} on {found['host']}"
