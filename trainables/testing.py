"""A trained model on the test split, which is looked at once: what that gave is kept beside the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from trainables.checkpoint import BEST
from trainables.config import TrialConfig
from trainables.evaluate import evaluate
from trainables.files import write_atomic
from trainables.loop import setup
from trainables.progress import Row
from trainables.ranks import Ranks, best_device

TESTED = "test.json"


def test_once(config: TrialConfig, *, folder: Path, ranks: Ranks) -> Row:
    """:func:`test_best`, unless ``folder`` has its result already; rank 0 writes it there.

    Raises:
        ValueError: see :func:`test_best`.
        AgreedError: the same, with several ranks.
    """
    path = folder / TESTED
    known = ranks.broadcast(json.loads(path.read_text(encoding="utf-8")) if ranks.rank == 0 and path.exists() else None)
    if known is not None:
        return known
    tested = test_best(config, folder=folder, ranks=ranks)
    if ranks.rank == 0:
        write_atomic(path, json.dumps(tested, indent=2, sort_keys=True) + "\n")
    return tested


def test_best(config: TrialConfig, *, folder: Path, ranks: Ranks | None = None) -> Row:
    """Loss and metrics of ``best.safetensors`` on the test split.

    Raises:
        ValueError: no checkpoint there, one of another configuration, or a test split without labels.
        AgreedError: the same, with several ranks.
    """
    state = setup(config, folder=folder, ranks=ranks or Ranks(device=best_device(config.device)), checkpoint=BEST)
    if len(state.data.rows["test"]) == 0:
        raise ValueError(f"dataset {config.dataset}: no labelled rows in split test")
    return evaluate(state, "test").named("test")
