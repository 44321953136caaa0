"""``mmtune.run``, ``resume``, ``open`` and ``load_model``: what the verbs do, for Python.

What is wrong is an exception with the message that the command line prints. Nothing is printed unless asked, and
nothing ends the process. docs/python.md shows them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.records import STORAGE, find_study, open_study
from mmtune.spec.overrides import override_texts
from mmtune.spec.search_spec import SearchSpec, load_spec
from mmtune.spec.shipped import find_search_file
from mmtune.storage.fetching import here
from mmtune.storage.store import resumed_by
from mmtune.study.study import Study

if TYPE_CHECKING:
    from mmtune.models.model import Model
    from mmtune.study.run import Say, Watching
    from mmtune.study.session import Ending


class StudyError(RuntimeError):
    """A study that ended before its budget was spent, though nobody stopped it: no trial succeeded, Ray fell.

    Args:
        message: what happened.
        study: the study, which holds all that was finished.
    """

    def __init__(self, message: str, study: Study) -> None:
        super().__init__(message)
        self.study = study


def run(
    search: str | Path | Mapping[str, Any] | SearchSpec,
    *,
    data: str | Path | None = None,
    storage: str | Path = STORAGE,
    address: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    name: str | None = None,
    verbose: bool = False,
) -> Study:
    """Runs a new study to its end, and what its ``confirm:`` asks for.

    Args:
        search: a search file, the name of one that comes with mmtune, a dict of what a search file says, or the
            ``spec`` of another study.
        data: where the dataset lies; None for embedded ones.
        storage: where the study's folder goes: a folder, or s3://, gs://, az:// or hdfs://.
        address: of a Ray cluster; None takes ``RAY_ADDRESS``, or a local one that ends with the study.
        overrides: of the search, by key: ``{"budget.trials": 4, "fixed.epochs": 2}``.
        name: another name for the study.
        verbose: shows what happens, as ``mmtune run`` does.

    Raises:
        SpecError: with everything that is wrong with the search.
        ValueError: no such search file, a study of that name, missing data, resources that do not exist.
        StudyError: it ended early by itself.
        KeyboardInterrupt: Ctrl-C, or a notebook's stop button; :func:`resume` goes on from the last finished epoch.
    """
    from mmtune.study.remote import start_studies

    spec = _spec(search, override_texts(overrides or {}), name)
    say, watching = _shown(verbose)
    where = None if data is None else str(Path(data).expanduser())
    endings = start_studies([spec], storage=storage, data_dir=where, address=address, say=say, watching=watching)
    with _silent_imports(), closing(endings):
        return _followed(next(endings), address=address, say=say, watching=watching)


def resume(
    study: str | Path | Study,
    *,
    address: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    retry_failed: bool = False,
    verbose: bool = False,
) -> Study:
    """Goes on with an interrupted study, or with a larger budget: ``overrides={"budget.trials": 40}``.

    Args:
        study: its folder, its name in ./studies, or its URL.
        address: as in :func:`run`.
        overrides: of ``budget``, ``resources`` and ``keep``, from now on.
        data: where its data lie now, if they were moved.
        retry_failed: runs FAILED trials again, but those that diverged or ran out of memory.
        verbose: shows what happens, as ``mmtune resume`` does.

    Raises:
        ValueError: no study, one that another process writes, an override that its trials could not bear, or data that
            are not theirs.
        StudyError: it ended early by itself.
        KeyboardInterrupt: as in :func:`run`.
    """
    from mmtune.study.remote import go_on

    say, watching = _shown(verbose)
    texts = override_texts(overrides or {})
    where = None if data is None else str(Path(data).expanduser())
    with _silent_imports():
        ending = go_on(
            study.path if isinstance(study, Study) else study,
            address=address,
            overrides=texts,
            data_dir=where,
            retries_failed=retry_failed,
            say=say,
            watching=watching,
        )
        return _followed(ending, address=address, say=say, watching=watching)


def open(study: str | Path) -> Study:
    """The study in a folder, the one of that name in ./studies, or the one at a URL; it may be running.

    Raises:
        ValueError: there is no such folder, or it is not a study.
    """
    return Study(open_study(find_study(here(str(study)))))


def load_model(model: str | Path | Study, *, device: str = "auto", regions: str | Path | None = None) -> Model:
    """The trained model that ``model`` means.

    Args:
        model: ``STUDY/t0007``, a study (its best trial), or the folder of a trained or exported one.
        device: 'auto', 'cpu' or 'gpu'.
        regions: an object detector's file of regions of the rows that it will be asked, for a model that reads such;
            None: the one it was trained on.

    Raises:
        ValueError: there is none, its weights were not kept, or an encoder that it needs is not there or is another.
    """
    from mmtune.models.model import Model
    from mmtune.models.reference import find_model

    ref = find_model(model.path if isinstance(model, Study) else here(str(model), with_weights=True))
    with _silent_imports():
        from trainables.trained import load_trained

        return Model(ref, load_trained(ref.folder, device=device, regions=None if regions is None else str(regions)))


def _spec(search: str | Path | Mapping[str, Any] | SearchSpec, overrides: list[str], name: str | None) -> SearchSpec:
    if isinstance(search, SearchSpec):
        return load_spec(search.text, overrides=overrides, name=name)
    if not isinstance(search, Mapping) and not (isinstance(search, str) and "\n" in search):
        search = find_search_file(search)
    return load_spec(search, overrides=overrides, name=name)


@contextmanager
def _silent_imports() -> Iterator[None]:
    """tqdm, which others import, warns in notebooks that it has no widgets."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        yield


def _shown(verbose: bool) -> tuple[Say | None, Watching]:
    """What a session says, and how it shows caches that fill."""
    from mmtune.cli.output import watching_caches

    return (partial(print, flush=True), watching_caches) if verbose else (None, nullcontext)


def _followed(ending: Ending, *, address: str | None, say: Say | None, watching: Watching) -> Study:
    """The study; what its file asks for after the search (``confirm:``) is run beside it."""
    from mmtune.models.confirm import run_confirm

    study = _ended(ending)
    after = run_confirm(ending.folder, address=address, say=say, watching=watching)
    if after is not None:
        _ended(after)
    return study


def _ended(ending: Ending) -> Study:
    study = Study(ending.folder)
    if ending.error is not None:
        raise StudyError(ending.error, study)
    advice = f"go on with it: mmtune.resume({resumed_by(study.path)!r})"
    if ending.is_interrupted:
        raise KeyboardInterrupt(f"study {study.name} was stopped; {advice}")
    if not ending.is_complete:
        raise StudyError(f"study {study.name} has unfinished trials; {advice}", study)
    return study
