"""What trial actors, slots and the broker between them tell each other; free of torch, for any process to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, Required, TypedDict


class TrialJob(TypedDict):
    """A trial to train."""

    trial: str  # its id
    config: dict[str, Any]  # of a TrialConfig
    folder: str  # trials/<id>/
    known_epoch: int  # the last one that the ledger has
    is_tested: bool  # once, when it has trained whole
    remote: NotRequired[str]  # the URL of its files, where the study lies in object storage


class CacheJob(TypedDict):
    """A cache to fill ahead of the trials."""

    requirement: bytes  # a pickled Requirement: the broker shall not import torch to hand it on
    along: bytes  # pickled Requirements that it may be a part of the work for


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
    facts: dict[str, Any]  # records.TRIAL_FACTS, and metrics of the test split where it was looked at
    error: str
    traceback: str
    is_fault: bool  # of storage or data, not of the trial: it goes on when they are well


@dataclass(frozen=True)
class Spent:
    """Where the time of the slots went beside what reports say, since it was asked for last."""

    fillings: list[dict[str, Any]]  # rows of caches.csv
    unreported: list[tuple[str, dict[str, float]]]  # trial, columns of time after its last report
    idle: float  # device-seconds in which slots had no job


Row = dict[str, Any]  # of reports.csv
Pending = tuple[Literal["report"], Row] | tuple[Literal["end"], End]  # what a trial actor has to answer
Event = Pending | tuple[Literal["wait"], None]
