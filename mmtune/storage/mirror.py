"""What the driver of a study in object storage does: it holds the lease, and commits the tables as they change.

1. The tables are committed, and that is waited for, before a trial's job is handed out: no worker writes what is of no
   trial yet.
2. Workers upload a trial's checkpoints before they report, so a report that was committed has its checkpoint.
3. What ``keep:`` removes goes from the store after the commit that makes it useless.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.records import StudyFolder
from mmtune.storage.commits import Commits, has_study, restore
from mmtune.storage.lease import Lease
from mmtune.storage.store import MARK, Store, working_folder
from mmtune.study.lock import StudyBusyError
from trainables.files import write_atomic

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCRATCH = "tune"  # Ray Train's own small files
_EVERY = 1.0  # seconds between two commits that nobody waits for


class Mirror:
    """The study in ``folder`` as its store has it; see the module.

    Args:
        store: of the study.
        folder: the working folder.
        lease: held.
    """

    def __init__(self, store: Store, folder: StudyFolder, lease: Lease) -> None:
        self._store, self._folder, self._lease = store, folder, lease
        self._commits = Commits(store, folder)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mirror")
        self._running: Future[None] | None = None
        self._trials: set[str] = set()  # whose config or error may be new
        self._unneeded: list[str] = []
        self._removed: set[str] = set()
        self._committed_at = 0.0

    @property
    def url(self) -> str:
        """Of the study."""
        return self._store.url

    @property
    def scratch(self) -> tuple[str, FileSystem]:
        """Where Ray Train keeps its own small files, which all nodes must see, and through what."""
        return self._store.place(f"{SCRATCH}/slots")

    def changed(self, trial: str) -> None:
        """A trial's config or error may be new."""
        self._trials.add(trial)

    def remove(self, path: Path) -> None:
        """A checkpoint is useless once what is known now is committed."""
        name = str(path.relative_to(self._folder.root))
        if name not in self._removed:
            self._removed.add(name)
            self._unneeded.append(name)

    def written(self, trial: str) -> None:
        """A trial trains, perhaps again: its config is new, and what was removed of it may be there again."""
        self.changed(trial)
        self._removed = {name for name in self._removed if not name.startswith(f"trials/{trial}/")}

    def note(self) -> None:
        """Commits what has changed, if the last commit is over and a while ago; waits for nothing.

        Raises:
            OSError: an earlier commit failed, or another driver has taken the study over.
        """
        if self._running is not None and not self._running.done():
            return
        if time.monotonic() - self._committed_at >= _EVERY:
            self._settle()
            self._start()

    def flush(self) -> None:
        """Commits what has changed, and returns when it is there.

        Raises:
            OSError: the store does not take it, or another driver has taken the study over.
        """
        self._settle()
        self._start()
        self._settle()

    def close(self) -> None:
        """Commits, puts the tables beside the commits, and lets go of the study."""
        try:
            self.flush()
            self._commits.put_files()
            self._store.delete_folder(SCRATCH)
        finally:
            self._thread.shutdown()
            with contextlib.suppress(OSError):
                self._lease.release()

    def _settle(self) -> None:
        running, self._running = self._running, None
        try:
            if running is not None:
                running.result()
        except StudyBusyError as error:  # to a session it is a fault of its storage
            raise OSError(str(error)) from None

    def _start(self) -> None:
        self._committed_at = time.monotonic()
        content = self._commits.changes(self._trials)
        self._trials.clear()
        unneeded, self._unneeded = self._unneeded, []
        if content is not None or unneeded:
            self._running = self._thread.submit(self._commit, content, unneeded)

    def _commit(self, content: bytes | None, unneeded: list[str]) -> None:
        self._lease.check()
        if content is not None:
            self._commits.put(content)
        for name in unneeded:
            self._store.delete(name)


@contextlib.contextmanager
def mirrored(
    url: str, say: Callable[[str], None], create: Callable[[Path], StudyFolder] | None = None
) -> Iterator[tuple[StudyFolder, Mirror]]:
    """Holds the study at ``url`` for this process, and its working folder.

    Args:
        url: of the study.
        say: receives a line on what is waited for.
        create: makes a new study in a storage folder; None takes the one that is there.

    Raises:
        ValueError: no study there, or one that exists, or another driver's.
    """
    store = Store(url)
    store.check()
    lease = Lease(store, say)
    folder = StudyFolder(working_folder(url))
    try:
        store.tidy()
        if create is None:
            restore(store, folder)
        else:
            if has_study(store):
                raise ValueError(f"study '{folder.name}' exists; go on with it: mmtune resume {url}")
            shutil.rmtree(folder.root, ignore_errors=True)  # the store knows nothing of it
            create(folder.root.parent)
            write_atomic(folder.root / MARK, url + "\n")
        mirror = Mirror(store, folder, lease)
        mirror.flush()
    except BaseException:
        with contextlib.suppress(OSError):
            lease.release()
        raise
    try:
        yield folder, mirror
    finally:
        mirror.close()
