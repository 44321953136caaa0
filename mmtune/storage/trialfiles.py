"""What workers do with a trial's files in object storage: fetch them when it begins, upload them at each report."""

from __future__ import annotations

import json
from pathlib import Path

from filelock import FileLock

from mmtune.storage.store import Store
from trainables.files import file_hash

_LIST = "files.json"  # names and sha256 of what lies there, as far as is known
_OF_THE_DRIVER = ("config.yaml", "error.txt", _LIST)


class TrialFiles:
    """The files of one trial.

    Args:
        url: of its folder.
        folder: on this node.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._store, self._folder = Store(url), folder
        self._there: dict[str, str] = {}

    def fetch(self) -> None:
        """Makes the folder what the store has, for all processes of this node.

        Raises:
            OSError: the store does not answer, or the folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / ".fetch.lock"):
            self._there = fetch_trial(self._store, self._folder)

    def upload(self) -> None:
        """Puts what is new into the store.

        Raises:
            OSError: the store does not take it.
        """
        names = {path.name: file_hash(path) for path in _files(self._folder)}
        new = {name: value for name, value in names.items() if self._there.get(name) != value}
        for name in sorted(new):
            self._store.upload(name, self._folder / name)
        if new:
            self._there = names
            self._store.put(_LIST, json.dumps(names, sort_keys=True).encode())


def fetch_trial(store: Store, folder: Path, *, only: tuple[str, ...] = ("",)) -> dict[str, str]:
    """Fetches a trial's files that are not here already, and removes what the store does not have.

    Args:
        store: of the trial.
        folder: here.
        only: endings of the names that are wanted.

    Returns:
        What the store says that it has: names and sha256.
    """
    there = [name for name in store.names() if name not in _OF_THE_DRIVER]
    known: dict[str, str] = json.loads(store.get(_LIST) or b"{}")
    for path in _files(folder):
        if path.name not in there:
            path.unlink()
    for name in there:
        path = folder / name
        is_here = path.is_file() and name in known and file_hash(path) == known[name]
        if not is_here and name.endswith(only):
            store.download(name, path)
    return {name: value for name, value in known.items() if name in there}


def _files(folder: Path) -> list[Path]:
    found = (path for path in sorted(folder.iterdir()) if path.is_file())
    return [path for path in found if path.name not in _OF_THE_DRIVER and not path.name.startswith(".")]
