"""Which checkpoints of a study stay, and the removal of the others (``keep:`` of a search file).

Of a trial that is under way, paused, or failed in a way that may pass, both stay: ``last.safetensors`` is what it goes
on from, ``best.safetensors`` what it leaves. Of one that is over for good ``last`` goes, and ``best`` too unless
``keep:`` wants it. Only trials that ended well compete for a place, so that whoever loses one never gets it back: no
kill at any moment, and nothing that comes later, can ask for weights that were removed. A paused trial that can hardly
return (:mod:`mmtune.search.stranded`) is treated as if it were over; should it return, it trains from its start.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmtune import records
from mmtune.study.failures import may_pass
from mmtune.study.ledger import open_ledger
from trainables.dominance import non_dominated
from trainables.files import unfinished
from trainables.modelfolder import LAST, MIDDLE, WEIGHTS

if TYPE_CHECKING:
    from mmtune.records import StudyFolder
    from mmtune.search.trials import TrialRecord
    from mmtune.spec.search_spec import SearchSpec
    from mmtune.spec.sections import Keep
    from mmtune.study.ledger import Ledger


@dataclass(frozen=True)
class Standing:
    """A trial that ended well, as it competes for a place."""

    trial: str
    family: str
    values: tuple[float | None, ...]
    """One an objective, smaller is better; None where it has none."""


def places(standings: Collection[Standing], keep: Keep) -> set[str]:
    """The trials whose weights stay. Equals share a place, so that it is kept for whichever is called the best.

    Args:
        standings: every trial that ended well and has the first objective.
        keep: ``best``: the best of each family and, with several objectives, the front; a number of trials; all.
    """
    if keep == "all":
        return {standing.trial for standing in standings}
    if keep != "best":
        last = sorted(_first(standing) for standing in standings)[: keep.top]
        return {standing.trial for standing in standings if last and _first(standing) <= last[-1]}
    best: dict[str, float] = {}
    for standing in standings:
        best[standing.family] = min(_first(standing), best.get(standing.family, math.inf))
    found = {standing.trial for standing in standings if _first(standing) == best[standing.family]}
    return found | {standing.trial for standing in _front(standings)}


def unneeded(
    trial: TrialRecord, *, has_place: bool, is_replaced: bool = False, is_stranded: bool = False
) -> tuple[str, ...]:
    """The checkpoints of a trial that nothing will ask for, 'last' and 'best'.

    Args:
        trial: as the ledger has it.
        has_place: whether :func:`places` has it.
        is_replaced: whether it is tried again under another number.
        is_stranded: whether it is paused and can hardly return.
    """
    is_done = trial.is_over or (is_stranded and trial.state == records.PAUSED)
    if not is_done or (may_pass(trial) and not is_replaced):
        return ()
    return ("last",) if has_place else ("last", "best")


class Collector:
    """Removes what :func:`unneeded` names from the folder of a study.

    Args:
        folder: the study, whose lock the caller holds.
        ledger: of its trials.
        objectives: metric and mode of each.
        keep: what stays.
        family: of all trials; None where it is searched.
        replaced: the trials that are tried again under another number.
        removed: receives each checkpoint that was removed.
    """

    def __init__(
        self,
        folder: StudyFolder,
        ledger: Ledger,
        *,
        objectives: Sequence[tuple[str, str]],
        keep: Keep,
        family: str | None,
        replaced: Callable[[], Collection[str]],
        removed: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self._folder, self._ledger, self._objectives = folder, ledger, objectives
        self._keep: Keep = keep
        self._family, self._replaced, self._removed = family, replaced, removed
        self._standings: dict[str, Standing] = {}  # of those that have a place: whoever lost one never gets it back
        self._stripped: set[str] = set()  # stranded trials that have nothing left to remove, as places are now

    def trial_ended(self, trial: str, *, stranded: Collection[str] = ()) -> None:
        """Removes what a trial's end or pause made useless, of itself and of those that it took a place from.

        Args:
            trial: which is over or paused.
            stranded: trials that are paused and can hardly return.
        """
        before = set(self._standings)
        self._remove({trial} | (before - self._place([self._ledger.trials[trial]])))
        self._stripped.discard(trial)
        if set(self._standings) != before:  # then some may have no place any more
            self._stripped.clear()
        self._remove([name for name in stranded if name not in self._stripped], are_stranded=True)
        self._stripped.update(stranded)

    def clear(self) -> None:
        """Removes all that is useless: at a session's end, also what a kill kept from being removed."""
        self._place(self._ledger.trials.values())
        self._remove(self._ledger.trials)

    def _place(self, trials: Iterable[TrialRecord]) -> set[str]:
        for trial in trials:
            standing = self._standing(trial) if trial.state in (records.COMPLETE, records.PRUNED) else None
            if standing is not None:
                self._standings[trial.trial] = standing
        kept = places(list(self._standings.values()), self._keep)
        self._standings = {name: standing for name, standing in self._standings.items() if name in kept}
        return kept

    def _standing(self, trial: TrialRecord) -> Standing | None:
        row = self._ledger.row(trial)
        values = tuple(_value(row.get(metric), mode) for metric, mode in self._objectives)
        family = self._family or str(trial.params.get("family"))
        return None if values[0] is None else Standing(trial.trial, family, values)

    def _has_place(self, trial: TrialRecord) -> bool:
        """Whether it has a place, or would have one if it were over."""
        own = None if trial.is_over else self._standing(trial)
        if own is None:
            return trial.trial in self._standings
        return trial.trial in places([*self._standings.values(), own], self._keep)

    def _remove(self, names: Iterable[str], *, are_stranded: bool = False) -> None:
        replaced = self._replaced()
        for name in names:
            trial = self._ledger.trials[name]
            kinds = unneeded(
                trial, has_place=self._has_place(trial), is_replaced=name in replaced, is_stranded=are_stranded
            )
            for path in _files(self._folder.trial(name), kinds):
                with contextlib.suppress(OSError):  # what cannot be removed now is tried again at the session's end
                    path.unlink(missing_ok=True)
                    self._removed(path)


def clear_finished(folder: StudyFolder, spec: SearchSpec, info: Mapping[str, Any]) -> None:
    """:meth:`Collector.clear` of a study that no session runs, under what ``keep:`` says now.

    Args:
        folder: the study, whose lock the caller holds.
        spec: what it searched.
        info: study.json.
    """
    objectives = [(item["metric"], item["mode"]) for item in info["objectives"]]
    ledger, retried = open_ledger(folder, spec, info), info.get("retried", ())
    Collector(
        folder, ledger, objectives=objectives, keep=spec.keep, family=spec.family, replaced=lambda: retried
    ).clear()
    ledger.close()


def _files(folder: Path, kinds: Collection[str]) -> Iterable[Path]:
    yield from (folder / {"last": LAST, "best": WEIGHTS}[kind] for kind in kinds)
    if kinds:
        yield folder / MIDDLE
        yield from unfinished(folder)


def _first(standing: Standing) -> float:
    assert standing.values[0] is not None
    return standing.values[0]


def _front(standings: Iterable[Standing]) -> list[Standing]:
    """Those of several objectives that no other beats."""
    points = [(values, one) for one in standings if len(values := [v for v in one.values if v is not None]) > 1]
    whole = [(values, one) for values, one in points if len(values) == len(one.values)]
    if not whole:
        return []
    is_on = non_dominated(np.array([values for values, _ in whole]))
    return [one for (_, one), keep in zip(whole, is_on, strict=True) if keep]


def _value(value: object, mode: str) -> float | None:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return -value if mode == "max" else value
