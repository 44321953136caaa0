"""Real study folders on disk, written with the functions that the search itself uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmtune import records
from trainables.files import write_atomic

SPEC: dict[str, Any] = {
    "study": "demo",
    "family": {"type": "categorical", "choices": ["fusion", "image", "text"]},
    "dataset": "openclipart",
    "objectives": [{"metric": "val_accuracy", "mode": "max"}],
    "fixed": {"epochs": 20, "batch_size": 32},
    "space": {
        "optim.lr": {"type": "float", "low": 1.0e-5, "high": 1.0e-2, "log": True},
        "model.hidden": [{"type": "int", "low": 16, "high": 512, "when": {"family": ["fusion"]}}],
    },
    "try_first": [],
    "sampler": {"name": "tpe", "seed": 1},
    "scheduler": {"name": "asha", "grace_epochs": 2, "reduction_factor": 3},
    "budget": {"trials": 48},
    "resources": {"workers": 1},
}
PARAMS = ["family", "optim.lr", "model.hidden"]
METRICS = ["val_accuracy", "val_loss", *records.SUMS, records.DEVICE, "peak_memory_gib", "samples_per_second"]
COLUMNS = [*records.TRIAL_COLUMNS, *PARAMS, *METRICS, *records.TRIAL_FACTS, "error", "started", "ended"]


class StudyWriter:
    """Writes study folders under ``root``, and the rows that go into them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def trial(number: int, **values: Any) -> dict[str, Any]:
        """One row of trials.csv; ``values`` replace the defaults of a COMPLETE trial."""
        row: dict[str, Any] = {
            "trial": records.trial_id(number),
            "state": records.COMPLETE,
            "epochs": 3,
            "best_epoch": 3,
            "family": "text",
            "optim.lr": 3e-4,
            "val_accuracy": 0.5,
            "val_loss": 1.0,
            "wall_seconds": 30.0,
            "device_seconds": 30.0,
            "peak_memory_gib": 1.5,
            "samples_per_second": 900.0,
            "num_parameters": 1_200_000,
            "started": "2026-01-02T03:04:05+00:00",
            "ended": "2026-01-02T03:05:05+00:00",
        }
        return row | values

    @staticmethod
    def reports(trial: Mapping[str, Any], epochs: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Reports that lead to a row of trials.csv: its costs in equal parts, its metric reached at the last epoch."""
        accuracy, last = trial["val_accuracy"], trial["epochs"]
        return [
            {
                "trial": trial["trial"],
                "epoch": epoch,
                "time": f"2026-01-02T03:{epoch:02d}:05+00:00",
                "train_loss": 2.0 - epoch / last,
                "val_accuracy": None if accuracy is None else accuracy * epoch / last,
                "val_loss": 2.0 - epoch / last,
                "lr": 1e-3,
                "wall_seconds": trial["wall_seconds"] / last,
                "device_seconds": trial["device_seconds"] / last,
                "peak_memory_gib": trial["peak_memory_gib"],
            }
            for epoch in (range(1, last + 1) if epochs is None else epochs)
        ]

    def write(
        self,
        name: str = "demo",
        trials: Sequence[Mapping[str, Any]] | None = (),
        reports: Sequence[Mapping[str, Any]] = (),
        **spec: Any,
    ) -> Path:
        """Writes the folder ``name``; trials=None leaves trials.csv out, ``spec`` replaces keys of the search file."""
        folder = records.StudyFolder(self.root / name)
        full = SPEC | {"study": folder.name} | spec
        params = PARAMS if isinstance(full["family"], dict) else PARAMS[1:]
        write_atomic(folder.spec, yaml.safe_dump(full, sort_keys=False))
        info = {"study": folder.name, "mmtune": "0.1.0", "params": params, "objectives": full["objectives"]}
        records.write_json(folder.info, info | {"max_epochs": 20, "versions": {}, "sessions": []})
        if trials is not None:
            columns = [column for column in COLUMNS if column != "family" or "family" in params]
            write_atomic(folder.trials, records.csv_text(columns, list(trials)))
        for trial in trials or ():
            config = {"family": trial["family"], "dataset": full["dataset"], "seed": 1, "epochs": 20}
            config |= {"optim": {"lr": trial["optim.lr"]}, "model": {}}
            write_atomic(folder.trial(trial["trial"]) / "config.yaml", yaml.safe_dump(config))
        if reports:
            columns = list(dict.fromkeys(column for row in reports for column in row))
            write_atomic(folder.reports, records.csv_text(columns, list(reports)))
        return folder.root

    def of(self, *trials: Mapping[str, Any], name: str = "demo", **spec: Any) -> Path:
        """A study of these trials, each with all its reports."""
        return self.write(name, trials, [row for trial in trials for row in self.reports(trial)], **spec)


@pytest.fixture(scope="session")
def study_writer() -> type[StudyWriter]:
    """For fixtures that live longer than a test."""
    return StudyWriter


@pytest.fixture
def studies(tmp_path: Path) -> StudyWriter:
    return StudyWriter(tmp_path)
