"""Tests a trained model on labelled rows, and writes what it says: metrics, by class, confusion, calibration, answers.

A look at the test split of a model's own data is counted in ``tested.csv`` of its study (of its folder, where it has
none): whoever chooses by test figures has no test figures left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune import records
from mmtune.models.reference import ModelRef
from mmtune.storage.additions import held, upload
from mmtune.study.lock import locked
from trainables.files import replacing, write_atomic
from trainables.messages import unknown

if TYPE_CHECKING:
    import pandas as pd

    from trainables.answers import Answers, Change, Labelled
    from trainables.trained import Trained

LEFT_OUT, BLANK, BOTH = "left_out", "blank", "both"
PROTOCOLS = (BOTH, LEFT_OUT, BLANK)
WHOLE = "all inputs"
ECE = "calibration_error"


@dataclass(frozen=True)
class Tested:
    """What a test found.

    Attributes:
        model: its name.
        split: which rows.
        dataset: their data.
        num_rows: how many.
        folder: what was written there.
        results: 'all inputs', 'without image (left out)', ... -> metrics by name.
        looks: how often the test split of its data was looked at, this time included; None where it was not.
        notes: what a user should know, a line each.
    """

    model: str
    split: str
    dataset: str
    num_rows: int
    folder: Path
    results: dict[str, dict[str, Any]]
    looks: int | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)


def evaluate_model(
    ref: ModelRef,
    *,
    split: str = "test",
    dataset: str | None = None,
    data_dir: str | None = None,
    without: Sequence[str] = (),
    protocol: str = BOTH,
    metrics: Sequence[str] = (),
    out: Path | None = None,
    device: str = "auto",
) -> Tested:
    """Tests a model and writes the results.

    Args:
        ref: which.
        split: 'train', 'val', 'test' or 'all'.
        dataset: format of other data; None is that of the training data.
        data_dir: folder of other data.
        without: modalities that are tested without, one after the other.
        protocol: 'left_out' (no token of it), 'blank' (an empty text, a grey picture) or 'both'.
        metrics: those that are told; none: all.
        out: folder for the files; None: ``tested/<split>`` in the model's folder, of other data
            ``tested/<dataset>-<split>-<its fingerprint>``.
        device: 'auto', 'cpu' or 'gpu'.

    Raises:
        ValueError: bad data, an unknown split, metric, modality or protocol, a model that cannot do without it, or a
            look at the test split that cannot be counted: a driver writes the study at this URL.
    """
    import torch

    from trainables.answers import answers, labelled
    from trainables.trained import load_trained

    trained = load_trained(ref.folder, device=device, regions=ref.regions)
    told = _told(trained, metrics)
    changes = _changes(trained, without, protocol)
    if trained.config.threads is not None:
        torch.set_num_threads(trained.config.threads)
    given = labelled(trained, split=split, dataset=dataset, data_dir=data_dir)
    folder = ref.folder / records.TESTS / name_of_rows(given, split) if out is None else out
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder}: is no folder")
    folder.mkdir(parents=True, exist_ok=True)
    looks = count_look(ref, without) if given.is_own and split == "test" else None
    first = answers(trained, given)
    results: dict[str, dict[str, Any]] = {WHOLE: _row(trained, first)}
    _write_tables(folder, trained, first)
    _write_answers(folder / "predictions.parquet", trained, first)
    for title, (file, change) in changes.items():
        found = answers(trained, given, change)
        results[title] = _row(trained, found)
        _write_answers(folder / f"predictions-{file}.parquet", trained, found)
    value = {
        "model": ref.name, "split": split, "dataset": given.dataset.name, "is_own_data": given.is_own,
        "rows": len(given.rows), "time": records.now(), "results": results, "notes": list(given.notes),
    }  # fmt: skip
    records.write_json(folder / "metrics.json", value)
    if ref.study is not None:
        upload(folder, ref.study)
    shown = {
        title: {name: value for name, value in row.items() if not told or name in told}
        for title, row in results.items()
    }
    return Tested(ref.name, split, given.dataset.name, len(given.rows), folder, shown, looks, given.notes)


def name_of_rows(given: Labelled, split: str) -> str:
    """The folder of what is written of rows: the split; of other data also its name and fingerprint."""
    from trainables.data.cache.identity import dataset_fingerprint

    return split if given.is_own else f"{given.dataset.name}-{split}-{dataset_fingerprint(given.dataset)[:8]}"


def looks_at_test(root: Path) -> int:
    """How often `mmtune test` looked at the test split that belongs to a study's folder, or to a model's by itself."""
    return len(records.read_csv(root / records.TESTED))


def told_times(looks: int) -> str:
    """'once', '2 times', ..."""
    return "once" if looks == 1 else f"{looks} times"


def count_look(ref: ModelRef, without: Sequence[str] = ()) -> int:
    """Notes that the test split of its own data is looked at; how often it was, this time included."""
    root = ref.folder if ref.study is None else ref.study
    with held(root), locked(root / records.TESTED):  # others may be looking, too
        rows = records.CsvAppender(root / records.TESTED)
        rows.append({"time": records.now(), "model": ref.name, "without": "+".join(without)})
    return looks_at_test(root)


def _told(trained: Trained, metrics: Sequence[str]) -> tuple[str, ...]:
    from trainables.metrics import metrics_of

    known = [row.name for row in metrics_of(trained.task)] + ([] if trained.task.kind == "regression" else [ECE])
    for name in metrics:
        if name not in known:
            raise ValueError(f"--metrics: {unknown(name, known)}")
    return tuple(metrics)


def _changes(trained: Trained, without: Sequence[str], protocol: str) -> dict[str, tuple[str, Change]]:
    """Title -> name of its file, and what is done to the batches."""
    from trainables.answers import blank, left_out
    from trainables.families import family_module

    if protocol not in PROTOCOLS:
        raise ValueError(f"--protocol: {unknown(protocol, PROTOCOLS)}")
    reads, config = trained.modalities, trained.config
    can = family_module(config.family).droppable(config.model)
    found: dict[str, tuple[str, Change]] = {}
    for modality in without:
        if modality not in reads:
            raise ValueError(f"--without: {unknown(modality, reads)}")
        if len(reads) == 1:
            raise ValueError(f"--without {modality}: {modality} is all that this model reads")
        if protocol != BLANK and modality not in can:
            which = f"; it can be without {', '.join(can)}" if can else ""
            raise ValueError(
                f"--without {modality}: family {config.family} as it is set here has no way to leave {modality} out"
                f"{which}. --protocol blank gives it an empty {modality} instead"
            )
        if protocol != BLANK:
            found[f"without {modality} (left out)"] = f"without-{modality}-left-out", left_out(modality)
        if protocol != LEFT_OUT:
            found[f"without {modality} (blank)"] = f"without-{modality}-blank", blank(trained, modality)
    return found


def _write_answers(path: Path, trained: Trained, found: Answers) -> None:
    """A row a sample: id, label, prediction, probabilities, logits."""
    import pyarrow
    import pyarrow.parquet

    from mmtune.models.outputs import label_column, output_columns

    task = trained.task
    scores = found.logits[:, 0] if task.kind == "regression" else trained.scores(found.logits)
    columns = {"id": found.ids, "label": label_column(task, found.labels), **output_columns(task, scores)}
    columns["logits"] = [*found.logits]
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary)


def _row(trained: Trained, found: Answers) -> dict[str, Any]:
    """The metrics of reports, and of classes the calibration error."""
    from analysis.calibration import calibration_error

    is_number = trained.task.kind == "regression"
    return found.row() | ({} if is_number else {ECE: calibration_error(_reliability(trained, found))})


def _reliability(trained: Trained, found: Answers) -> pd.DataFrame:
    from analysis.calibration import confidences, reliability

    return reliability(*confidences(found.labels, trained.scores(found.logits), trained.task))


def _write_tables(folder: Path, trained: Trained, found: Answers) -> None:
    """By class, confusion and calibration, as CSV and picture."""
    from analysis.calibration import reliability_figure
    from analysis.classes import confusion, confusion_figure, per_class
    from analysis.figures import png

    task, labels, logits = trained.task, found.labels, found.logits
    if task.kind == "regression":
        return
    write_atomic(folder / "per_class.csv", per_class(labels, logits, task).to_csv(index=False))
    table = confusion(labels, logits, task)
    write_atomic(folder / "confusion.csv", table.to_csv())
    if task.kind == "multiclass":
        write_atomic(folder / "confusion.png", png(confusion_figure(table)))
    bins = _reliability(trained, found)
    write_atomic(folder / "calibration.csv", bins.to_csv(index=False))
    write_atomic(folder / "calibration.png", png(reliability_figure(bins)))
