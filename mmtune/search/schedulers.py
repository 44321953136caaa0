"""Schedulers: a row of ``SCHEDULERS`` each, from which ``check``, lists and the schema take what a scheduler is.

``asha``, ``hyperband`` and ``none`` let a trial train to the epoch that :mod:`mmtune.search.promotion` gave it, and the
rows say by what ladder. ``asha_stopping`` has Ray Tune's rule, ``median`` Vizier's. None of them is Ray's own class:

- What they know is the ledger: Ray's experiment snapshot leaves the scheduler out, and ASHA would resume with empty
  rungs.
- The clock is the epoch, and a trial that reaches its last epoch ends by itself: ASHA would "stop" it, so
  that winners and losers could not be told apart and the trial's closing facts were lost.
- Once the budget is spent every trial stops at its next report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mmtune.search.promotion import ladder
from mmtune.search.rungs import Rules
from mmtune.search.trials import Trials
from trainables.config import Section

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler


class RungOptions(Section):
    """Options of what has rungs."""

    grace_epochs: int = Field(default=2, ge=1)
    """The first rung: no trial is paused or stopped earlier, in epochs."""


class AshaOptions(RungOptions):
    """Options of ``asha``."""

    reduction_factor: int | None = Field(default=None, ge=2)
    """One of so many trials goes on from a rung, and rungs are so many times apart: the paper's eta. null: rungs are
    three times apart, and of four trials one goes on; of three where budget.trials counts them."""


class HyperbandOptions(RungOptions):
    """Options of ``hyperband``."""

    reduction_factor: int = Field(default=3, ge=2)
    """One of so many trials goes on from a rung, and rungs are so many times apart: the paper's eta."""


class AshaStoppingOptions(HyperbandOptions):
    """Options of ``asha_stopping``."""

    brackets: int = Field(default=1, ge=1)
    """Ladders of rungs, each starting one rung later."""


class MedianOptions(Section):
    """Options of ``median``."""

    grace_epochs: int = Field(default=1, ge=1)
    """No trial is stopped earlier, in epochs."""
    least_trials: int = Field(default=3, ge=1)
    """Nobody is stopped at an epoch before so many others have come there."""


@dataclass(frozen=True)
class SchedulerKind:
    """A row of ``SCHEDULERS``."""

    name: str
    about: str
    options: type[Section]
    """What ``scheduler:`` takes beside its name."""
    make: Callable[[Any, Trials, Callable[[], bool]], TrialScheduler]
    """From the options, the study's trials and whether the budget is used up; imports Ray."""
    rules: Callable[[Any, int, bool], Rules] = lambda options, epochs, counts_trials: Rules(rungs=(epochs,))
    """From the options, the epochs of a whole trial and whether the budget is a number of trials: the rungs that trials
    climb; by default that alone."""


def _to_its_epoch(options: Section, trials: Trials, is_spent: Callable[[], bool]) -> TrialScheduler:
    from mmtune.search.toepoch import ToItsEpoch

    return ToItsEpoch(trials=trials, is_spent=is_spent)


def _asha_rules(options: AshaOptions, epochs: int, counts_trials: bool) -> Rules:
    """What a quarter saves on a rung is worth more as further configurations; where these are counted, it is lost."""
    apart = options.reduction_factor or 3
    eta = options.reduction_factor or (3 if counts_trials else 4)
    return Rules(rungs=ladder(epochs, grace=options.grace_epochs, eta=apart), eta=eta)


def _hyperband_rules(options: HyperbandOptions, epochs: int, counts_trials: bool) -> Rules:
    eta = options.reduction_factor
    rungs = ladder(epochs, grace=options.grace_epochs, eta=eta)
    return Rules(rungs=rungs, eta=eta, brackets=len(rungs))


def _median(options: MedianOptions, trials: Trials, is_spent: Callable[[], bool]) -> TrialScheduler:
    from mmtune.search.stopping import StopBelowMedian

    return StopBelowMedian(trials=trials, is_spent=is_spent, **dict(options))


def _asha_stopping(options: AshaStoppingOptions, trials: Trials, is_spent: Callable[[], bool]) -> TrialScheduler:
    from mmtune.search.stopping import StopBelow

    return StopBelow(trials=trials, is_spent=is_spent, **dict(options))


_ROWS = (
    SchedulerKind(
        "asha",
        "pauses trials at rungs; the top 1/reduction_factor of a rung go on to the next; the default",
        AshaOptions,
        _to_its_epoch,
        _asha_rules,
    ),
    SchedulerKind(
        "asha_stopping",
        "stops for good what is below the top 1/reduction_factor of its rung, as Ray Tune does",
        AshaStoppingOptions,
        _asha_stopping,
    ),
    SchedulerKind(
        "hyperband",
        "as asha, on several ladders of which each begins a rung later: some trials are never judged early",
        HyperbandOptions,
        _to_its_epoch,
        _hyperband_rules,
    ),
    SchedulerKind(
        "median",
        "stops for good whose best is worse than the median of the others' averages up to its epoch",
        MedianOptions,
        _median,
    ),
    SchedulerKind("none", "trains every trial to its end", Section, _to_its_epoch),
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
