"""What a study has spent, and whether that is all it may."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmtune import records

if TYPE_CHECKING:
    from analysis.studies import StudyCost
    from mmtune.search.trials import Trials
    from mmtune.spec.sections import Budget


@dataclass
class Account:
    """Epochs and time of a study: of its trials and caches from the ledger, of its sessions from the clock."""

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
        """Whether a limit on epochs or time is reached; the number of trials is the searcher's to count."""
        epochs, left = self.budget.epochs, self.seconds_left(devices=1)
        return (epochs is not None and self.trials.num_epochs() >= epochs) or (left is not None and left <= 0)


def is_finished(info: Mapping[str, Any], cost: StudyCost) -> bool:
    """Whether a study is over: its last session ended well, all trials have ended, one of them with a result, and a
    limit of its budget is reached.

    Args:
        info: study.json.
        cost: what it took.
    """
    sessions, states = info["sessions"], cost.states
    over = sum(states.get(state, 0) for state in records.ENDED)
    has_result = any(states.get(state) for state in (records.COMPLETE, records.PRUNED))
    if not has_result or over != sum(states.values()) or (sessions and sessions[-1].get("error")):
        return False
    spent = {
        "trials": over - len(info.get("retried", ())),
        "epochs": cost.epochs,
        "device_hours": cost.device_hours,
        "wall_hours": sum(session.get("seconds", 0.0) for session in sessions) / 3600,
    }
    limits = {name: limit for name in spent if (limit := info["budget"].get(name)) is not None}
    return any(spent[name] >= limit for name, limit in limits.items())
