"""What one trial consists of, from :func:`trainables.loop.setup` to its end; every step of the recipe takes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.clock import Clock
from trainables.config import TrialConfig
from trainables.data.data import Data
from trainables.files import check_there
from trainables.losses import SupervisedLoss
from trainables.memory import PeakMemory
from trainables.precision import Precision
from trainables.progress import Progress
from trainables.ranks import Ranks
from trainables.task import Task
from trainables.uda import DynamicLambda


@dataclass
class State:
    """One trial on one rank.

    Attributes:
        config: what is trained.
        folder: where checkpoints and predictions go.
        ranks: this process among those that train it.
        data: what it trains and evaluates on.
        precision: autocast and loss scale.
        supervised: the supervised loss with its weights.
        model: what is evaluated and saved.
        optimizer: over the parameters that train.
        uda: lambda of the epoch about to run.
        steps_per_epoch: optimiser steps.
        share: rows of a step that a rank has, at most.
        is_in_parts: micro-batches are cut inside of the model (:mod:`trainables.parts`), not before it.
        memory: what it takes of the device.
        depth: batches that a thread makes in advance; 0 makes each when it is needed.
        progress: epochs so far.
        clock: where its time goes.
        cache_seconds: what making once took of all that it opened in the cache, on one device.
        halvings: how often forwards were halved since the device was too full (:mod:`trainables.room`).
        tell: hears which epoch is trained, how many of its rows are, and how many there are.
        is_there: whether ``folder`` was found or made: it is not made anew where it vanished.
        every_seconds: between checkpoints in the middle of an epoch; None: there are none.
        is_wanted_back: whether this process shall write one and end.
        inside: tensors and facts of the epoch that a restored checkpoint was written in, until it goes on.
        seconds_before: that the epoch under way trained in earlier processes.
        wrapped: the model as training calls it (DDP, compiled).
    """

    config: TrialConfig
    folder: Path
    ranks: Ranks
    data: Data
    precision: Precision
    supervised: SupervisedLoss
    model: nn.Module
    optimizer: torch.optim.Optimizer
    uda: DynamicLambda
    steps_per_epoch: int
    share: int
    is_in_parts: bool
    memory: PeakMemory
    depth: int
    progress: Progress = field(default_factory=Progress)
    clock: Clock = field(default_factory=Clock)
    cache_seconds: float = 0.0
    halvings: int = 0
    tell: Callable[[str, int, int], None] = lambda what, done, total: None
    is_there: bool = False
    every_seconds: float | None = None
    is_wanted_back: Callable[[], bool] = lambda: False
    inside: tuple[dict[str, Tensor], dict[str, Any]] | None = None
    seconds_before: float = 0.0
    wrapped: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.wrapped = self.model
        self.trainable = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def check_folder(self) -> None:
        """Returns if checkpoints can be written.

        Raises:
            OSError: the folder is gone, with its study or a mounted disk: another in its place would be nobody's.
        """
        if self.is_there:
            check_there(self.folder)
        self.is_there = True

    @property
    def task(self) -> Task:
        """What is predicted."""
        return self.data.task

    @property
    def forward_rows(self) -> int:
        """Labelled rows of a training forward and rank, at most."""
        rows = min(self.config.micro_batch_size or self.share, self.share)
        return -(-rows // 2**self.halvings)

    @property
    def eval_rows(self) -> int:
        """Rows of a forward and rank where nothing is trained, at most."""
        return -(-self.config.eval_batch_size // 2**self.halvings)
