"""One configuration without a search: the same loop, then the test split once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mmtune import records
from trainables.config import TrialConfig
from trainables.files import write_atomic


def train_single(config: TrialConfig, *, folder: Path, say: Callable[[str], None] = print) -> dict[str, float]:
    """Trains ``config`` in ``folder``, or goes on where it was interrupted there.

    Writes config.yaml, reports.csv, the last and best checkpoint, predictions.parquet and, at the end, test.json;
    when that exists the test split is not looked at again. Nothing is written before the first epoch is over, so
    that a config which cannot be trained does not keep the folder from the next.

    Returns:
        Metrics on the test split.

    Raises:
        ValueError: bad data, training that diverged, or a folder of another configuration.
    """
    text, written = yaml.safe_dump(config.to_dict(), sort_keys=False), folder / "config.yaml"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is no folder; choose another --out")
    if written.exists() and written.read_text(encoding="utf-8") != text:
        raise ValueError(f"{folder}: holds another configuration; choose another --out")
    done = folder / "test.json"
    if done.exists():
        say(f"{folder}: trained and tested before")
        return records.read_json(done)
    import torch

    from trainables.errors import AgreedError
    from trainables.loop import test_best, train

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rows = records.CsvAppender(folder / "reports.csv")
    known = max((row["epoch"] for row in records.read_rows(rows.path)), default=0)

    def report(row: dict[str, Any]) -> bool:
        if not written.exists():
            write_atomic(written, text)
        rows.append(row)
        value = row[config.objective]
        say(f"epoch {row['epoch']}/{config.epochs} {config.objective} {value:.4f} loss {row['train_loss']:.4f}")
        return False

    try:
        outcome = train(config, folder=folder, report=report, known_epoch=known)
    except AgreedError as error:
        raise ValueError(f"training failed: {error}") from None
    say(f"ended ({outcome.reason}); best epoch {outcome.best_epoch}")
    records.write_json(done, test_best(config, folder=folder))
    return records.read_json(done)
