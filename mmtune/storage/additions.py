"""What is written of a study beside its search, where that lies in object storage: to its URL too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mmtune.storage.store import Store, remote_of


@contextlib.contextmanager
def held(root: Path) -> Iterator[None]:
    """Around a change of the tables in ``root``: of a study at a URL they are its newest, and go there.

    Raises:
        ValueError: a driver writes the study at that URL.
    """
    url = remote_of(root)
    if url is None:
        yield
        return
    from mmtune.storage.mirror import mirrored

    with mirrored(url, lambda line: None):
        yield


def upload(folder: Path, root: Path) -> None:
    """Puts the files of a folder in ``root`` to the study's URL, if it has one.

    Raises:
        OSError: the store does not take them.
    """
    url = remote_of(root)
    if url is not None and folder.resolve().is_relative_to(root.resolve()):
        store = Store(url)
        for path in sorted(folder.iterdir()):
            store.upload(str(path.resolve().relative_to(root.resolve())), path)


def fetch(store: Store, folder: Path) -> None:
    """Writes the files that lie in a store's folder into one here, as they are now.

    Raises:
        OSError: the store does not answer.
    """
    for name in store.names():
        store.download(name, folder / name)
