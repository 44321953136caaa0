"""What a study has spent, and whether that is all it may."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmtune import records

if TYPE_CHECKING:
    from mmtune.search.trials import Trials
    from mmtune.spec.sections import Budget


@dataclass
class Account:
    """The time of a study: of its trials and caches from the ledger, of its sessions from the clock."""

    budget: Budget
    trials: Trials
    seconds_before: float  # wall seconds of earlier sessions
    began: float = field(default_factory=time.monotonic)  # when this session began, by time.monotonic

    def session_seconds(self) -> float:
        """Wall seconds since this session began."""
        return time.monotonic() - self.began

    def seconds_left(self, *, devices: float) -> float | None:
        """Device-seconds until a limit on time is reached, if ``devices`` are busy; None without such a limit."""
        budget, left = self.budget, []
        if budget.device_hours is not None:
            left.append(3600 * budget.device_hours - self.trials.device_seconds())
        if budget.wall_hours is not None:
            left.append(devices * (3600 * budget.wall_hours - self.seconds_before - self.session_seconds()))
        return min(left, default=None)

    def is_spent(self) -> bool:
        """Whether a limit on time is reached; the number of trials is the searcher's to count."""
        left = self.seconds_left(devices=1)
        return left is not None and left <= 0


def is_finished(info: Mapping[str, Any], states: Mapping[str, int]) -> bool:
    """Whether a study is over: its last session ended well, some trial has a result, and its budget of trials is spent.

    Args:
        info: study.json.
        states: number of trials in each.
    """
    total, sessions = info["budget"]["trials"], info["sessions"]
    if total is None or (sessions and sessions[-1].get("error")):
        return False
    over = sum(states.get(state, 0) for state in records.ENDED)
    has_result = any(states.get(state) for state in (records.COMPLETE, records.PRUNED))
    return has_result and over == sum(states.values()) and over - len(info.get("retried", ())) >= total
