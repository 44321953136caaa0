"""Reading a study in object storage: its tables, and of its trials' files what is wanted, in its working folder."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from mmtune.records import TESTS, StudyFolder
from mmtune.storage.additions import fetch
from mmtune.storage.commits import has_study, restore
from mmtune.storage.store import Store, is_url, working_folder
from mmtune.storage.trialfiles import fetch_trial
from mmtune.study.lock import lock_owner

_SMALL = (".parquet", ".json", ".txt", ".yaml")


def here(study: str, *, with_weights: bool = False) -> str:
    """The folder of a study on this machine: ``study`` itself, or where the one at that URL was fetched to.

    Args:
        study: a path, a name, or a URL; of a model ``URL/t0007``.
        with_weights: whether models are wanted.

    Raises:
        ValueError: a URL where no study is.
    """
    if not is_url(study):
        return study
    store, trial = Store(study), None
    if not has_study(store):
        above, _, trial = study.rstrip("/").rpartition("/")
        store = Store(above) if above.count("/") > 2 else store
        if not has_study(store):
            store.check()
            raise ValueError(f"{study}: no study is there")
    folder = StudyFolder(working_folder(store.url))
    wanted = (*_SMALL, "best.safetensors") if with_weights else _SMALL
    folder.root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.root.with_name(f".{folder.name}.fetch.lock")):
        if lock_owner(folder) is None:  # else its driver runs here, and the folder is newer than the store
            restore(store, folder)
            for name in store.folders("trials"):
                if trial in (None, name) and folder.trial(name).is_dir():
                    at = f"trials/{name}"
                    fetch_trial(store.below(at), folder.trial(name), only=wanted)
                    for split in store.folders(f"{at}/{TESTS}"):
                        fetch(store.below(f"{at}/{TESTS}/{split}"), folder.trial(name) / TESTS / split)
    return str(folder.root if trial is None else Path(folder.root, trial))
