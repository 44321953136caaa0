"""What a study has spent, and whether that is all it may."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmtune.search.trials import Trials
    from mmtune.spec.sections import Budget


@dataclass
class Account:
    """The time of a study: of its trials from the ledger, of its sessions from the clock."""

    budget: Budget
    trials: Trials
    seconds_before: float  # wall seconds of earlier sessions
    _began: float = field(default_factory=time.monotonic, init=False)

    def session_seconds(self) -> float:
        """Wall seconds since this session began."""
        return time.monotonic() - self._began

    def is_spent(self) -> bool:
        """Whether a limit on time is reached; the number of trials is the searcher's to count."""
        budget = self.budget
        if budget.device_hours is not None and self.trials.device_seconds() >= 3600 * budget.device_hours:
            return True
        spent = self.seconds_before + self.session_seconds()
        return budget.wall_hours is not None and spent >= 3600 * budget.wall_hours
