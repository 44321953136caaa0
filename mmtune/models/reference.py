"""Which trained model a user means: a study's trial, a study (its best), or a folder that was trained or exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmtune import records
from trainables.messages import unknown
from trainables.modelfolder import FACTS, WEIGHTS


@dataclass(frozen=True)
class ModelRef:
    """Where a trained model lies.

    Attributes:
        folder: with its model.json, and its weights if they were kept.
        study: the folder of the study that it is a trial of; None of one trained or exported by itself.
        trial: its id in that study.
        regions: a detector's file of regions for the rows that it is asked, in place of the one it was trained on.
    """

    folder: Path
    study: Path | None = None
    trial: str | None = None
    regions: str | None = None

    @property
    def name(self) -> str:
        """What it is called: 'demo-openclipart/t0007', or the folder's name."""
        return self.folder.name if self.study is None else f"{self.study.name}/{self.trial}"


def find_model(text: str | Path, *, needs_weights: bool = True) -> ModelRef:
    """The model that ``text`` means: ``STUDY/t0007``, ``STUDY`` (its best trial), or a folder.

    Args:
        text: as a user writes it.
        needs_weights: False where only its config and its data are read.

    Raises:
        ValueError: none of these, a study in which nothing ended well yet, a trial without a model or, where they are
            needed, without weights.
    """
    model = _meant_by(text)
    if not (model.folder / FACTS).is_file():
        raise ValueError(f"{model.name}: has no model: it ended before its first epoch was over")
    if (model.folder / "model.onnx").is_file():
        raise ValueError(f"{model.name}: is for onnxruntime (--format onnx); mmtune reads what --format folder exports")
    if needs_weights and not (model.folder / WEIGHTS).is_file():
        raise ValueError(
            f"{model.name}: its weights were not kept (the study's `keep:`); "
            f"train it again: mmtune train {model.folder / 'config.yaml'}"
        )
    return model


def _meant_by(text: str | Path) -> ModelRef:
    path = records.find_study(text)
    if (path / FACTS).is_file():
        return _of_folder(path)
    if _is_study(path):
        return _best_of(path)
    study, trial = records.find_study(path.parent), path.name
    if _is_study(study):
        return _of_study(study, trial)
    if path.is_dir():
        raise ValueError(f"{text}: neither a study nor a trained model (no study.json, no {FACTS} in it)")
    raise ValueError(f"{text}: no such model; give STUDY/t0007, STUDY (its best trial) or the folder of a trained one")


def _is_study(path: Path) -> bool:
    return (path / "study.json").is_file()


def _of_folder(path: Path) -> ModelRef:
    """A trial's folder inside of its study is that trial."""
    root = path.resolve().parent.parent
    is_trial = path.resolve().parent.name == "trials" and _is_study(root)
    return ModelRef(path, root, path.name) if is_trial else ModelRef(path)


def _best_of(path: Path) -> ModelRef:
    from analysis.best import best_trial
    from analysis.studies import choose_objective, load_studies

    metric, mode = choose_objective(path)
    return _of_study(path, str(best_trial(load_studies(path), metric, mode).at["trial"]))


def _of_study(path: Path, trial: str) -> ModelRef:
    folder = records.open_study(path)
    known = [row["trial"] for row in records.read_trials(folder)]
    if trial not in known:
        raise ValueError(f"{path}: trial {unknown(trial, known)}" if known else f"{path}: no trial yet")
    return ModelRef(folder.trial(trial), folder.root, trial)
