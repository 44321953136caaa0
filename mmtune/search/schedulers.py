"""Schedulers: a row of ``SCHEDULERS`` each, from which ``check``, lists and the schema take what a scheduler is.

Each is Ray Tune's own, told apart from it in three ways.

- What they know is rebuilt from reports.csv: Ray's experiment snapshot leaves the scheduler out, and ASHA
  would resume with empty rungs.
- The clock is the epoch, and a trial that reaches its last epoch ends by itself: ASHA would "stop" it, so
  that winners and losers could not be told apart and the trial's closing facts were lost.
- Once the budget is spent every trial stops at its next report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mmtune.search.trials import Trials
from trainables.config import Section

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler


class AshaOptions(Section):
    """Options of ``asha``."""

    grace_epochs: int = Field(default=1, ge=1)
    """The first rung: no trial is stopped earlier, in epochs."""
    reduction_factor: int = Field(default=3, ge=2)
    """One of so many trials goes on from a rung: the paper's eta."""
    brackets: int = Field(default=1, ge=1)
    """Ladders of rungs, each starting one rung later."""


@dataclass(frozen=True)
class SchedulerKind:
    """A row of ``SCHEDULERS``."""

    name: str
    about: str
    options: type[Section]
    """What ``scheduler:`` takes beside its name."""
    make: Callable[[Any, Trials, Callable[[], bool]], TrialScheduler]
    """From the options, the study's trials and whether the budget is used up; imports Ray."""


def _asha(options: AshaOptions, trials: Trials, is_spent: Callable[[], bool]) -> TrialScheduler:
    from mmtune.search.asha import StudyAsha

    return StudyAsha(trials=trials, is_spent=is_spent, **dict(options))


def _none(options: Section, trials: Trials, is_spent: Callable[[], bool]) -> TrialScheduler:
    from mmtune.search.fifo import StudyFifo

    return StudyFifo(epochs=trials.max_epochs, is_spent=is_spent)


_ROWS = (
    SchedulerKind(
        "asha", "stops what is below the top 1/reduction_factor of its rung; the default", AshaOptions, _asha
    ),
    SchedulerKind("none", "trains every trial to its end", Section, _none),
)
SCHEDULERS: dict[str, SchedulerKind] = {row.name: row for row in _ROWS}


def make_scheduler(name: str, *, options: Section, trials: Trials, is_spent: Callable[[], bool]) -> TrialScheduler:
    """The scheduler ``name`` of a study.

    Args:
        name: a key of ``SCHEDULERS``.
        options: its own.
        trials: what the study folder says of them.
        is_spent: whether the budget is used up.
    """
    return SCHEDULERS[name].make(options, trials, is_spent)
