"""What trial actors, slots and the broker between them tell each other; free of torch, for any process to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Required, TypedDict


class TrialJob(TypedDict):
    """A trial to train."""

    config: dict[str, Any]  # of a TrialConfig
    folder: str  # trials/<id>/
    known_epoch: int  # the last one that the ledger has


class CacheJob(TypedDict):
    """A cache to fill ahead of the trials."""

    requirement: bytes  # a pickled Requirement: the broker shall not import torch to hand it on


@dataclass(frozen=True)
class Order:
    """A job as a slot is given it."""

    slot: str
    trial: str
    attempt: int  # 1 for the first time
    job: TrialJob | CacheJob
    known_epoch: int  # the last one answered: those after it are reported again


class End(TypedDict, total=False):
    """How a job ended."""

    state: Required[str]  # one of records.ENDED
    reason: str  # why training ended, of COMPLETE
    facts: dict[str, Any]  # records.TRIAL_FACTS
    error: str
    traceback: str


Row = dict[str, Any]  # of reports.csv
Pending = tuple[Literal["report"], Row] | tuple[Literal["end"], End]  # what a trial actor has to answer
Event = Pending | tuple[Literal["wait"], None]
