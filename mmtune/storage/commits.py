"""The tables of a study in object storage, as numbered commits: each holds all that changed since the one before.

A commit is one object, ``ledger/00000012.zip``: whenever a driver is killed, the tables are those of one moment. Of a
file that has grown it has the new end, of any other the whole. Every hundredth is whole and makes those before it
useless. Beside them lie the files themselves, as they were when the last session ended, for other tools.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from mmtune.records import StudyFolder
from mmtune.storage.store import MARK, Store
from trainables.files import write_atomic

FOLDER = "ledger"
_WHOLE_EVERY = 100  # commits
_NAME = re.compile(r"(\d{8})(-whole)?\.zip")
_OF_TRIALS = ("config.yaml", "error.txt")  # what the driver writes; the rest is the workers'


class Commits:
    """Makes commits of the tables in ``folder``; the caller holds the lease.

    Args:
        store: of the study.
        folder: the working folder.
    """

    def __init__(self, store: Store, folder: StudyFolder) -> None:
        self._store, self._folder = store, folder
        self._known: dict[str, tuple[int, int]] = {}  # size and crc32 of what the last commit made of each file
        self._number = max((number for number, _ in _numbers(store)), default=0)
        self._since_whole = _WHOLE_EVERY

    def changes(self, trials: Iterable[str] = ()) -> bytes | None:
        """What has changed since this was asked last, as the content of a commit; None if nothing has.

        Args:
            trials: whose config and error are looked at too.
        """
        is_whole = self._since_whole >= _WHOLE_EVERY
        known = {} if is_whole else self._known
        found = {str(path.relative_to(self._folder.root)): path.read_bytes() for path in self._files(trials, is_whole)}
        parts: list[tuple[str, int, bytes]] = []
        for name, data in found.items():
            size, crc = known.get(name, (0, 0))
            if len(data) == size and zlib.crc32(data) == crc and name in known:
                continue
            offset = size if len(data) > size and zlib.crc32(data[:size]) == crc else 0
            parts.append((name, offset, data[offset:]))
        of_root = {name for name in known if "/" not in name}
        gone = sorted(of_root - found.keys())
        if not parts and not gone:
            return None
        self._known = {name: fact for name, fact in known.items() if name not in gone}
        self._known |= {name: (len(data), zlib.crc32(data)) for name, data in found.items()}
        self._since_whole = 0 if is_whole else self._since_whole + 1
        return _packed(parts, gone, is_whole=is_whole)

    def put(self, content: bytes) -> None:
        """Adds a commit.

        Raises:
            OSError: it is not there; the next is whole.
        """
        is_whole = json.loads(zipfile.ZipFile(io.BytesIO(content)).read("index.json"))["is_whole"]
        before = _numbers(self._store) if is_whole else []
        name = f"{self._number + 1:08d}{'-whole' if is_whole else ''}.zip"
        try:
            self._store.put(f"{FOLDER}/{name}", content)
        except OSError:
            self._since_whole = _WHOLE_EVERY
            raise
        self._number += 1
        for _, old in before:
            self._store.delete(f"{FOLDER}/{old}")

    def put_files(self) -> None:
        """Puts the files themselves beside the commits."""
        for path in self._files((), is_whole=True):
            self._store.upload(str(path.relative_to(self._folder.root)), path)
        for path in self._folder.tensorboard.rglob("*"):
            if path.is_file():
                self._store.upload(str(path.relative_to(self._folder.root)), path)

    def _files(self, trials: Iterable[str], is_whole: bool) -> list[Path]:
        root = self._folder.root
        found = [path for path in sorted(root.iterdir()) if path.is_file() and not path.name.startswith(".")]
        folders = sorted(root.glob("trials/*")) if is_whole else [self._folder.trial(trial) for trial in trials]
        return found + [path for folder in folders for name in _OF_TRIALS if (path := folder / name).is_file()]


def has_study(store: Store) -> bool:
    """Whether there is a study."""
    return bool(_numbers(store))


def restore(store: Store, folder: StudyFolder) -> None:
    """Makes the tables in ``folder`` those of the last commit; checkpoints that lie there stay.

    Raises:
        ValueError: there is no study.
        OSError: the store does not answer.
    """
    files: dict[str, bytes] = {}
    numbers = _numbers(store)
    if not numbers:
        raise ValueError(f"{store.url}: no study is there")
    last_whole = max(index for index, (_, name) in enumerate(numbers) if "-whole" in name)
    for _, name in numbers[last_whole:]:
        content = store.get(f"{FOLDER}/{name}")
        if content is None:  # its driver has just made a whole one
            return restore(store, folder)
        _apply(files, content)
    root = folder.root
    root.mkdir(parents=True, exist_ok=True)
    for path in [*root.iterdir(), *(path for name in _OF_TRIALS for path in root.glob(f"trials/*/{name}"))]:
        if path.is_file() and path.name != ".lock" and str(path.relative_to(root)) not in files:
            path.unlink()
    for path in root.glob("trials/*"):  # of a session that never committed it
        if f"trials/{path.name}/config.yaml" not in files:
            shutil.rmtree(path)
    for name, data in files.items():
        write_atomic(root / name, data)
    write_atomic(root / MARK, store.url + "\n")


def _numbers(store: Store) -> list[tuple[int, str]]:
    """Number and name of each commit, in order."""
    matches = [match for name in store.names(FOLDER) if (match := _NAME.fullmatch(name))]
    return sorted((int(match[1]), match[0]) for match in matches)


def _packed(parts: list[tuple[str, int, bytes]], gone: list[str], *, is_whole: bool) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        index = {"is_whole": is_whole, "gone": gone, "files": [[name, offset] for name, offset, _ in parts]}
        file.writestr("index.json", json.dumps(index))
        for number, (_, _, data) in enumerate(parts):
            file.writestr(str(number), data)
    return out.getvalue()


def _apply(files: dict[str, bytes], content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        index = json.loads(file.read("index.json"))
        if index["is_whole"]:
            files.clear()
        for name in index["gone"]:
            files.pop(name, None)
        for number, (name, offset) in enumerate(index["files"]):
            files[name] = files.get(name, b"")[:offset] + file.read(str(number))
