"""A new study folder: the search file as it will run, and study.json, which says what ran where."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mmtune
from mmtune import records
from mmtune.info import FORMAT
from mmtune.records import StudyFolder
from mmtune.spec.search_spec import SearchSpec
from mmtune.study.forecast import Forecast
from mmtune.study.learn import write_lessons
from trainables.files import write_atomic

_PACKAGES = ("ray", "torch", "torchvision", "transformers", "optuna", "numpy", "pandas")


def new_folder(spec: SearchSpec, storage: str | Path) -> StudyFolder:
    """Where the study of ``spec`` would go; makes nothing.

    Raises:
        ValueError: something is there already, or ``storage`` can be no folder.
    """
    folder = StudyFolder(Path(storage).expanduser().resolve() / spec.study)
    there = next(path for path in folder.root.parents if path.exists())
    if not there.is_dir():
        raise ValueError(f"--storage {storage}: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"--storage {storage}: nothing can be made in {there}")
    if folder.root.exists() and (not folder.root.is_dir() or any(folder.root.iterdir())):
        is_study = folder.info.exists()
        advice = f"go on with it: mmtune resume {folder.root}" if is_study else "it is not a study"
        raise ValueError(f"study '{spec.study}' exists in {folder.root.parent}; {advice}, or choose another --name")
    return folder


def create_study(
    spec: SearchSpec,
    *,
    storage: str | Path,
    data_dir: str | None = None,
    forecast: Forecast | None = None,
) -> StudyFolder:
    """A new study folder with its spec and study.json, which says what it was thought to take.

    Raises:
        ValueError: the folder exists.
    """
    folder = new_folder(spec, storage)
    info = {
        "format": FORMAT,
        "study": spec.study,
        "mmtune": mmtune.__version__,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "git_commit": _git_commit(),
        "argv": sys.argv,
        "started": records.now(),
        "seeds": {"sampler": spec.sampler.seed, "trial": spec.fixed.get("seed", 1)},
        "params": list(spec.space.keys),
        "objectives": [{"metric": item.metric, "mode": item.mode} for item in spec.objectives],
        "max_epochs": spec.epochs,
        "budget": vars(spec.budget),
        "data_dir": None if data_dir is None else str(Path(data_dir).expanduser().resolve()),
        "sessions": [],
        **({} if forecast is None else {"plan": forecast.to_json()}),
    }
    temporary = folder.root.with_name(f".{folder.root.name}.{os.getpid()}.new")
    new = StudyFolder(temporary)
    try:
        write_atomic(new.spec, spec.to_yaml())
        write_lessons(new, spec)
        records.write_json(new.info, info)
        if folder.root.exists():
            folder.root.rmdir()  # empty, as checked above
        temporary.rename(folder.root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit that this code is checked out at; None when it is installed, wherever that is."""
    here = Path(__file__)

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=here.parent, capture_output=True, text=True, check=False)

    try:
        is_tracked = git("ls-files", "--error-unmatch", here.name).returncode == 0
        return git("rev-parse", "HEAD").stdout.strip() if is_tracked else None
    except FileNotFoundError:  # no git here
        return None
