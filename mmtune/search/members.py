"""The study's trials as the schedule and the sampler see them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from statistics import median_low
from typing import Any

from mmtune import records
from mmtune.search.rungs import Member
from mmtune.search.trials import TrialRecord, Trials


class Members:
    """A :class:`Member` for each trial of the ledger; those whose record has not changed are not made again.

    Args:
        trials: the ledger's.
        family: of all trials; None where it is searched.
        params_of: the params of a trial's number: as proposed, which trials.csv has as text only.
        objectives: metric and mode of each where there are several.
    """

    def __init__(
        self,
        trials: Trials,
        *,
        family: str | None,
        params_of: Callable[[int], Mapping[str, Any]],
        objectives: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._trials, self._family, self._params_of = trials, family, params_of
        self._objectives = objectives
        self._known: dict[str, tuple[tuple[str, int, int | None], Member]] = {}
        self._members: dict[int, Member] = {}  # by number, in order
        self._seen = 0  # of the trials' changes

    def all(self) -> list[Member]:
        """In the order of their numbers."""
        changes = self._trials.changes
        names, self._seen = dict.fromkeys(changes[self._seen :]), len(changes)
        last, is_sorted = next(reversed(self._members), -1), True
        for name in names:
            member = self._member(name, self._trials[name])
            is_sorted = is_sorted and (member.number in self._members or member.number > last)
            self._members[member.number] = member
            last = max(last, member.number)
        if not is_sorted:
            self._members = dict(sorted(self._members.items()))
        return list(self._members.values())

    def _member(self, name: str, record: TrialRecord) -> Member:
        mark = (record.state, record.epoch, record.until)
        known = self._known.get(name)
        if known is None or known[0] != mark:
            number = records.trial_number(name)
            params = self._params_of(number)
            seconds = [spent for row in record.rows if (spent := _price(row))]
            member = Member(
                number=number,
                family=self._family or str(params.get("family")),
                state=record.state,
                until=record.until or self._trials.max_epochs,
                bests=bests(record, metric=self._trials.metric, mode=self._trials.mode),
                seconds=median_low(seconds) if seconds else None,
                params=params,
                points=points(record, self._objectives) if len(self._objectives) > 1 else (),
            )
            self._known[name] = known = (mark, member)
        return known[1]


def bests(record: TrialRecord, *, metric: str, mode: str) -> tuple[float, ...]:
    """The best value up to each epoch that was reported, so signed that smaller is better; infinite before any."""
    sign = -1.0 if mode == "max" else 1.0
    values = [math.inf if row.get(metric) is None else sign * row[metric] for row in record.rows]
    return tuple(accumulate(values, min))


def points(record: TrialRecord, objectives: Sequence[tuple[str, str]]) -> tuple[tuple[float, ...], ...]:
    """All objectives up to each epoch that was reported, so signed that smaller is better.

    Metrics are those of the best epoch by the first objective; costs are what the trial had taken by then. Infinite
    where there is none.
    """
    found, part = [], replace(record, rows=[], unreported={})
    for row in record.rows:
        part.add(row)
        best = part.best(*objectives[0]) or {}
        values = [part.cost(name) if name in records.COSTS else best.get(name) for name, _ in objectives]
        signs = [-1.0 if mode == "max" else 1.0 for _, mode in objectives]
        found.append(
            tuple(math.inf if value is None else sign * value for value, sign in zip(values, signs, strict=True))
        )
    return tuple(found)


def _price(row: Mapping[str, Any]) -> float:
    """Device-seconds of an epoch without setup, which is long the first time that a slot's processes do it."""
    return (row.get("device_seconds") or 0.0) - (row.get("setup_seconds") or 0.0)
