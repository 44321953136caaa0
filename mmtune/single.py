"""One configuration without a search: the same loop, then the test split once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mmtune import records
from trainables.config import TrialConfig


def train_single(config: TrialConfig, *, folder: Path, say: Callable[[str], None] = print) -> dict[str, float]:
    """Trains ``config`` in ``folder``, or goes on where it was interrupted there.

    Writes config.yaml, reports.csv, the last and best checkpoint, predictions.parquet and, at the end, test.json;
    when that exists the test split is not looked at again.

    Returns:
        Metrics on the test split.

    Raises:
        ValueError: bad data, or a folder with another configuration's checkpoint.
        NonFiniteError: training diverged.
    """
    import torch

    from trainables.loop import AgreedError, test_best, train

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    text, written = yaml.safe_dump(config.to_dict(), sort_keys=False), folder / "config.yaml"
    if written.exists() and written.read_text(encoding="utf-8") != text:
        raise ValueError(f"{folder}: holds another configuration; choose another --out")
    records.write_atomic(written, text)
    done = folder / "test.json"
    rows = records.CsvAppender(folder / "reports.csv")
    known = max((row["epoch"] for row in records.read_rows(rows.path)), default=0)

    def report(row: dict[str, Any]) -> bool:
        rows.append(row)
        value = row[config.objective]
        say(f"epoch {row['epoch']}/{config.epochs} {config.objective} {value:.4f} loss {row['train_loss']:.4f}")
        return False

    try:
        outcome = train(config, folder=folder, report=report, known_epoch=known)
    except AgreedError as error:
        raise ValueError(f"training failed: {error}") from None
    say(f"ended ({outcome.reason}); best epoch {outcome.best_epoch}")
    if done.exists():
        return records.read_json(done)
    result = test_best(config, folder=folder)
    records.write_json(done, result)
    return result
