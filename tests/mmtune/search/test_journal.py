"""Optuna's journal on a disk that fills, and after a kill."""

import random
import resource
import warnings

import optuna
import pytest
from optuna.samplers import QMCSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from mmtune.search.journal import Journal, take_back_proposal


def test_what_a_full_disk_cuts_short_is_taken_back_and_written_again(tmp_path):
    path, names = tmp_path / "optuna.log", [("val_loss", "min")]
    journal = Journal(path, name="s", objectives=names)
    journal.enqueue({"x": 0.5})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.enqueue({"x": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    again = Journal(path, name="s", objectives=names)
    count = len(again.trials())
    again.enqueue({"x": 1.5})
    assert len(Journal(path, name="s", objectives=names).trials()) == count + 1


@pytest.mark.parametrize("is_enqueued", [False, True])
@pytest.mark.parametrize("drawn", [0, 1, 2])
@pytest.mark.parametrize("sampler", [RandomSampler, QMCSampler])
def test_a_proposal_that_was_cut_short_is_made_again_from_its_first_draw(tmp_path, sampler, drawn, is_enqueued):
    """The rest alone would take the sampler's first numbers for others, and of a sequence the one behind."""

    def opened(name):
        return Journal(tmp_path / name, name="s", objectives=[("val_loss", "min")])

    def propose(journal, count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = journal.ask(sampler(seed=3))
            return [trial.suggest_float(name, 0.0, 1.0) for name in ("x", "y", "z")[:count]]

    for name in ("whole", "cut"):
        journal = opened(name)
        for _ in range(2):
            propose(journal, 3)
        if is_enqueued:
            journal.enqueue({"y": 0.25})
    propose(opened("cut"), drawn)
    journal = opened("cut")
    assert take_back_proposal(tmp_path / "cut", journal.trials(), lambda params: len(params) == 3)
    journal = opened("cut")
    assert len(journal.trials()) == 2 + is_enqueued
    assert propose(journal, 3) == propose(opened("whole"), 3)
    assert not take_back_proposal(tmp_path / "cut", opened("cut").trials(), lambda params: len(params) == 3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_what_samplers_are_shown_is_what_optuna_reads_but_for_paused_trials(tmp_path, seed):
    """Whatever was asked for before, and in a session that goes on."""
    path, rng, paused, retried = tmp_path / "optuna.log", random.Random(seed), set(), []

    def opened():
        journal = Journal(path, name="s", objectives=[("val_loss", "min")])
        for number in paused:
            journal.pause(number)
        return journal

    journal = opened()
    for step in range(120):
        running = [trial.number for trial in journal.trials() if trial.state == TrialState.RUNNING]
        over = [trial.number for trial in journal.trials() if trial.state.is_finished() and trial.number not in paused]
        kind = rng.choice(["ask", "ask", "enqueue", "report", "pause", "go on", "tell", "retry", "open", "note"])
        if kind == "ask":
            journal.ask(RandomSampler(seed=step)).suggest_float("x", 0.0, 1.0)
        elif kind == "enqueue":
            journal.enqueue({"x": 0.5})
        elif kind == "retry" and over:
            retried.append(f"t{(of := rng.choice(over)):04d}")
            journal.retry(of)
        elif kind == "open":
            journal = opened()
        elif kind == "go on" and paused:
            number = paused.pop()
            journal.reopen(number, RandomSampler(seed=step))
        elif running:
            number = rng.choice(running)
            if kind == "report":
                journal.report(number, {step: 0.5})
            elif kind == "note":
                journal.note(number, seen=step)
            elif kind == "pause":
                paused.add(number)
                journal.pause(number)
            elif kind == "tell":
                state = rng.choice([None, TrialState.FAIL, TrialState.PRUNED])
                journal.tell(number, values=None if state else [0.5], state=state)
        if rng.random() < 0.4:  # so that some changes are seen together
            continue
        plain = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path)))).trials
        for trial in plain:
            trial.state = TrialState.PRUNED if trial.number in paused else trial.state
        shown = journal.trials()
        assert [(t.number, t.state, t.params, t.values, t.user_attrs) for t in shown] == [
            (t.number, t.state, t.params, t.values, t.user_attrs) for t in plain
        ]
        assert [t.intermediate_values for t in shown] == [t.intermediate_values for t in plain]
        for states in ((TrialState.RUNNING,), (TrialState.WAITING,), (TrialState.COMPLETE, TrialState.PRUNED)):
            assert [t.number for t in journal.trials(*states)] == [t.number for t in plain if t.state in states]
        waiting = [t.number for t in plain if t.state == TrialState.WAITING]
        assert journal.next_number() == min(waiting, default=len(plain))
        assert journal.retried() == sorted(retried)
        assert journal.num_asked() == len(plain) - len(waiting) - len(retried)
    assert {t.state for t in journal.trials()} == set(TrialState)
