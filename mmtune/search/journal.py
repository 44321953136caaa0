"""The sampler's memory: an Optuna study in a journal file of the study folder.

Whatever a proposal depends on lies here, so a study's next one is a function of its folder. Optuna's own ``Study``
cannot write to a trial that another session asked for; its storage can, and that is what this class is for.
"""

from __future__ import annotations

import contextlib
import copy
import json
import warnings
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.storages.journal._storage import JournalOperation
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mmtune import records
from trainables.files import append, drop_torn_line, write_atomic

_RETRY_OF = "retry_of"  # user attribute: the trial whose parameters are tried again


class _HeldLock:
    """The study's own lock is held, so the journal needs none, and leaves no stale one behind a SIGKILL."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class _File(JournalFileBackend):
    """A journal whose lines are there whole or not at all: Optuna cannot read past half a line."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), lock_obj=_HeldLock())  # pyright: ignore[reportArgumentType]
        self._path = path
        self.changed: set[int] = set()
        """Ids of trials that lines since the last look were of, but for new trials'."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.changed |= _ids(logs)
        append(self._path, "".join(f"{json.dumps(log, separators=(',', ':'))}\n" for log in logs).encode())


class _Memory(BaseJournalBackend):
    """A journal that is gone with the process."""

    def __init__(self) -> None:
        self._logs: list[dict[str, Any]] = []
        self.changed: set[int] = set()
        """As :attr:`_File.changed`."""

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return copy.deepcopy(self._logs[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.changed |= _ids(logs)
        self._logs += copy.deepcopy(logs)


def _ids(logs: Sequence[Mapping[str, Any]]) -> set[int]:
    return {log["trial_id"] for log in logs if "trial_id" in log}


class _Storage(JournalStorage):
    """Shows samplers paused trials as PRUNED. Of what it shows only trials that have changed are looked at again.

    To Optuna they are RUNNING, since only such a trial can go on; but TPE's constant liar takes what is RUNNING for bad
    and would keep away from a search's best trials. The journal has one study, in which a trial's id is its number.
    """

    def __init__(self, backend: _File | _Memory) -> None:
        super().__init__(backend)
        self._changed = backend.changed  # nobody else writes: the study's lock is held
        self._paused: set[int] = set()
        self._shown: list[FrozenTrial] = []
        self._in: dict[TrialState, set[int]] = {state: set() for state in TrialState}

    def pause(self, number: int) -> None:
        """From now on it is shown as PRUNED while it is RUNNING."""
        self._paused.add(number)
        self._changed.add(number)

    def go_on(self, number: int) -> None:
        """From now on it is shown as it is."""
        self._paused.discard(number)
        self._changed.add(number)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self._look(study_id)
        shown = self._shown
        if states is None:
            found = list(shown)
        else:
            found = [
                shown[at] for at in sorted(at for state in TrialState if state in states for at in self._in[state])
            ]
        return copy.deepcopy(found) if deepcopy else found

    def _look(self, study_id: int) -> None:
        for trial in [] if self._shown else super().get_all_trials(study_id, deepcopy=False):
            self._show(trial)
        with contextlib.suppress(KeyError):
            while True:
                self._show(self.get_trial(len(self._shown)))
        while self._changed:
            self._show(self.get_trial(self._changed.pop()))

    def _show(self, trial: FrozenTrial) -> None:
        number = trial.number
        if number in self._paused and trial.state == TrialState.RUNNING:
            trial = copy.copy(trial)
            trial.state = TrialState.PRUNED
        if number < len(self._shown):
            self._in[self._shown[number].state].remove(number)
            self._shown[number] = trial
        else:
            self._shown.append(trial)
        self._in[trial.state].add(number)


class Journal:
    """The Optuna study in the journal at ``path``, made if there is none. The caller holds the study's lock.

    A last line that a kill cut short is removed: Optuna cannot read past it.

    Args:
        path: the file; None keeps the study in memory.
        name: of the study.
        objectives: metric and mode of each.

    Raises:
        ValueError: the file is damaged.
    """

    def __init__(self, path: Path | None, *, name: str, objectives: Sequence[tuple[str, str]]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if path is None:
            backend = _Memory()
        else:
            drop_torn_line(path)
            backend = _File(path)
        ways = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
        directions = [ways[mode] for _, mode in objectives]
        try:
            self._storage = _Storage(backend)
            self._study = self._opened(name, directions)
        except OSError:
            raise
        except Exception as error:  # whatever Optuna meets in lines that are not its own
            raise ValueError(f"{path}: is damaged; the study cannot go on without it ({error})") from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self._study.metric_names != [metric for metric, _ in objectives]:
                self._study.set_metric_names([metric for metric, _ in objectives])
        self._study_id = self._storage.get_study_id_from_name(name)
        self._retried: list[str] = []
        self._looked = 0  # at trials, for those

    # --- proposals ----------------------------------------------------------------------------------
    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Has ``params``, under Optuna's names, proposed before anything else."""
        self._study.enqueue_trial(dict(params))

    def retry(self, number: int) -> None:
        """Has the parameters of a trial that is over proposed again, before anything new."""
        attributes = {_RETRY_OF: records.trial_id(number)}
        self._study.enqueue_trial(self._storage.get_trial(self._id(number)).params, user_attrs=attributes)

    def retried(self) -> list[str]:
        """Trials that were handed out again under another number: no budget counts them."""
        trials = self.trials()
        new = (trial.user_attrs.get(_RETRY_OF) for trial in trials[self._looked :])  # they have it from their start
        self._retried += [name for name in new if name is not None]
        self._looked = len(trials)
        return sorted(self._retried)

    def num_asked(self) -> int:
        """Trials that were proposed, each retried one once."""
        return len(self.trials()) - len(self.trials(TrialState.WAITING)) - len(self.retried())

    def next_number(self) -> int:
        """The number that the next proposal will have."""
        waiting = self.trials(TrialState.WAITING)
        return waiting[0].number if waiting else len(self.trials())

    def ask(self, sampler: BaseSampler) -> optuna.Trial:
        """The next proposal."""
        self._study.sampler = sampler
        return self._study.ask()

    def reopen(self, number: int, sampler: BaseSampler) -> optuna.Trial:
        """An interrupted or paused trial with its parameters; ``sampler`` draws what had not been drawn."""
        self._storage.go_on(number)
        self._study.sampler = sampler
        return optuna.Trial(self._study, self._id(number))

    def pause(self, number: int) -> None:
        """From now on samplers see this trial as PRUNED at its last epoch, until it is reopened or told."""
        self._storage.pause(number)

    # --- what happened ------------------------------------------------------------------------------
    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Those in one of ``states``, without any all, by number; not to be changed."""
        return self._study.get_trials(states=states or None, deepcopy=False)

    def params(self, number: int) -> dict[str, Any]:
        """What was proposed, under Optuna's names."""
        return self._storage.get_trial(self._id(number)).params

    def report(self, number: int, values: Mapping[int, float]) -> None:
        """Epochs' values of a trial that is under way; those it has stay as they are."""
        known = self._storage.get_trial(self._id(number)).intermediate_values
        for epoch, value in values.items():
            if epoch not in known:
                self._storage.set_trial_intermediate_value(self._id(number), epoch, float(value))

    def note(self, number: int, **attributes: Any) -> None:
        """Optuna's user attributes of a trial that is under way."""
        for key, value in attributes.items():
            self._storage.set_trial_user_attr(self._id(number), key, value)

    def tell(self, number: int, *, values: Sequence[float] | None = None, state: TrialState | None = None) -> None:
        """The trial's end: its values, or the state of one that has none."""
        self._storage.go_on(number)
        self._study.tell(number, values, state=state)

    def _opened(self, name: str, directions: Sequence[StudyDirection]) -> optuna.Study:
        """The study in the storage; only one that is not there yet is written."""
        try:
            return optuna.load_study(study_name=name, storage=self._storage)
        except KeyError:
            return optuna.create_study(study_name=name, storage=self._storage, directions=directions)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def take_back_proposal(path: Path, trials: Sequence[FrozenTrial], is_full: Callable[[Mapping[str, Any]], bool]) -> bool:
    """Cuts a proposal that a kill cut short off the end of the journal at ``path``: it is drawn again as a whole.

    To draw the rest of it would begin the sampler's numbers anew, and give others than an undisturbed study has.

    Args:
        path: nothing was written since, as its driver wrote nothing else.
        trials: all of the journal.
        is_full: whether params under Optuna's names are all that a trial has.

    Returns:
        Whether it was: the journal must be opened again.
    """
    cut = [trial.number for trial in trials if trial.state == TrialState.RUNNING and not is_full(trial.params)]
    lines = path.read_bytes().splitlines(keepends=True) if cut else []
    of_study = (JournalOperation.SET_STUDY_USER_ATTR, JournalOperation.SET_STUDY_SYSTEM_ATTR)
    for at in reversed(range(len(lines))):
        log = json.loads(lines[at])
        kind = JournalOperation(log["op_code"])
        is_new = kind == JournalOperation.CREATE_TRIAL and "state" not in log and cut[-1] == len(trials) - 1
        if is_new or (kind == JournalOperation.SET_TRIAL_STATE_VALUES and log["trial_id"] == cut[-1]):
            write_atomic(path, b"".join(lines[:at]))
            return True
        if kind not in of_study and log.get("trial_id") != cut[-1]:
            return False
    return False


def take_back_ends(path: Path, numbers: Collection[int]) -> None:
    """Makes failed trials RUNNING again in the journal at ``path``, replaced as a whole; their notes go too.

    Optuna changes no trial that is over. The journal has one study, in which a trial's id is its number.
    """
    drop_torn_line(path)
    lines = path.read_bytes().splitlines(keepends=True) if numbers else []
    kept = [line for line in lines if not _is_end(json.loads(line), numbers)]
    if len(kept) < len(lines):
        write_atomic(path, b"".join(kept))


def _is_end(log: Mapping[str, Any], numbers: Collection[int]) -> bool:
    """Whether a line of the journal says that one of the trials failed, or notes something of it."""
    kind, is_of_them = JournalOperation(log["op_code"]), log.get("trial_id") in numbers
    is_failure = kind == JournalOperation.SET_TRIAL_STATE_VALUES and log.get("state") == TrialState.FAIL
    return is_of_them and (is_failure or kind == JournalOperation.SET_TRIAL_USER_ATTR)
