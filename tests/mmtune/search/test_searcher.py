"""The Optuna study behind Tune: states, resuming, and proposals that depend on nothing but the folder."""

import math
import random
import re

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.search.journal import Journal
from mmtune.search.searcher import StudySearcher
from mmtune.space.assignments import check
from mmtune.space.optuna_names import to_optuna
from mmtune.spec.search_spec import load_spec
from mmtune.study.ledger import Ledger
from mmtune.study.tensorboard import param_kinds

SPEC = """
study: s
family: fusion
dataset: openclipart
fixed: {epochs: 4}
space:
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  model.kind: {type: categorical, choices: [early, late]}
  uda.mode: {type: categorical, choices: ["none", dynamic]}
  uda.n: {type: int, low: 1, high: 9, when: {uda.mode: dynamic}}
  uda.k: {type: int, low: 0, high: 4, at_most: uda.n, when: {uda.mode: dynamic}}
try_first:
  - {optim.lr: 1.0e-3, model.kind: late, uda.mode: dynamic, uda.n: 3, uda.k: 2}
sampler: {name: SAMPLER, seed: 7}
scheduler: {name: SCHEDULER}
budget: {trials: TRIALS}
"""


class Session:
    """One life of the driver, as mmtune.study.tuner wires it, with a scripted trial in Tune's place."""

    def __init__(
        self, tmp_path, *, trials=6, sampler="tpe", scheduler="asha_stopping", is_spent=lambda: False, more="", of=SPEC
    ):
        if scheduler.startswith("asha"):
            scheduler += ", grace_epochs: 1"
        names = {"TRIALS": str(trials), "SAMPLER": sampler, "SCHEDULER": scheduler}
        self.spec = load_spec(re.sub("[A-Z]{5,}", lambda name: names[name[0]], of) + more)
        self.ledger = Ledger(
            StudyFolder(tmp_path), objective=("val_accuracy", "max"), params=param_kinds(self.spec.space), max_epochs=4,
            limits=self.spec.constraints,
        )  # fmt: skip
        self.journal = Journal(
            tmp_path / "optuna.log", name="s", objectives=[(one.metric, one.mode) for one in self.spec.objectives]
        )
        if not self.journal.trials():
            for params in self.spec.try_first:
                self.journal.enqueue(to_optuna(self.spec.space, params))
        self.ended, self.faults, self.slots = [], [], 100
        self.searcher = StudySearcher(
            spec=self.spec, journal=self.journal, ledger=self.ledger,
            job=lambda trial, params: {"params": params}, rules=self.spec.rules, is_spent=is_spent,
            seconds_left=lambda: None, slots=lambda: self.slots, on_end=lambda trial, ticket: self.ended.append(trial),
            on_fault=lambda trial, ticket, what: self.faults.append((trial, what)),
        )  # fmt: skip

    def report(self, tune_id, trial, epoch, value, *, seconds=1.0):
        row = {"epoch": epoch, "val_accuracy": value, "train_loss": 1.0, "device_seconds": seconds, "wall_seconds": 1.0}
        self.searcher.on_trial_result(tune_id, {"epoch": epoch, "value": value})
        self.ledger.add(trial, row)


def score(params):
    return 0.5 + 0.1 * (params.get("model.kind") == "late") - 0.05 * abs(math.log10(params["optim.lr"]) + 3)


def play(session, count, *, start=0):
    """Runs ``count`` trials to their end, one after the other; what was proposed."""
    proposed = []
    for index in range(start, start + count):
        suggestion = session.searcher.suggest(f"tune{index}")
        if suggestion == "FINISHED":
            break
        trial, params = suggestion["trial"], suggestion["job"]["params"]
        proposed.append((trial, params))
        last = 4 if index % 2 == 0 else 2
        for epoch in range(session.ledger.trials[trial].epoch + 1, last + 1):
            session.report(f"tune{index}", trial, epoch, score(params) * epoch / 4)
        stopped = {"epoch": 2, "value": score(params) / 2}
        end = {"end/state": "COMPLETE", "end/reason": "epochs"} if last == 4 else stopped
        session.searcher.on_trial_complete(f"tune{index}", end)
    return proposed


def test_states_are_told_apart(tmp_path):
    session = Session(tmp_path)
    ids = []
    for index in range(5):
        suggestion = session.searcher.suggest(f"tune{index}")
        ids.append(suggestion["trial"])
    for epoch in range(1, 5):
        session.report("tune0", ids[0], epoch, epoch / 10)
    session.searcher.on_trial_complete("tune0", {"end/state": "COMPLETE", "end/facts/num_trainable": 3})
    session.report("tune1", ids[1], 1, 0.3)
    session.ledger.add(ids[1], {"epoch": 2, "val_accuracy": 0.2})
    session.searcher.on_trial_complete("tune1", {"epoch": 2, "value": 0.2})  # ASHA stopped it
    session.searcher.on_trial_complete("tune2", {"end/state": "FAILED", "end/error": "NonFiniteError: val_loss"})
    session.searcher.on_trial_complete("tune3", {"end/state": "INFEASIBLE", "end/error": "out of memory"})
    session.searcher.on_trial_complete("tune4", error=True)
    states = [trial.state.name for trial in session.journal.trials()]
    assert states == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "FAIL"]
    assert session.journal.trials()[0].value == 0.4
    assert session.journal.trials()[1].intermediate_values == {1: 0.3, 2: 0.2}
    assert session.journal.trials()[3].user_attrs["infeasible"] is True
    assert session.journal.trials()[4].user_attrs["error"] == "the trial's process died"
    seen = session.journal.trials()[0].user_attrs  # what optuna-dashboard has columns of
    line = session.ledger.row(session.ledger.trials[ids[0]])
    assert (seen["val_accuracy"], seen["epochs"], seen["best_epoch"], seen["num_trainable"]) == (0.4, 4, 4, 3)
    assert seen["device_seconds"] == line["device_seconds"] and "optim.lr" not in seen
    ledger = [session.ledger.trials[trial].state for trial in ids]
    assert ledger == ["COMPLETE", "PRUNED", "FAILED", "INFEASIBLE", "FAILED"]
    assert session.ledger.trials[ids[0]].facts == {"num_trainable": 3}
    assert session.ended == ids


def test_a_fault_of_storage_leaves_the_trial_as_a_kill_would(tmp_path):
    first = Session(tmp_path)
    name, end = play(first, 1)[0][0], {"end/state": "FAILED", "end/error": "/x: no room", "end/is_fault": True}
    second = first.searcher.suggest("tune1")
    first.report("tune1", second["trial"], 1, 0.3)
    first.searcher.on_trial_complete("tune1", end)
    assert first.faults == [(second["trial"], "/x: no room")] and first.ended == [name]
    assert first.ledger.trials[second["trial"]].state == "RUNNING"
    again = Session(tmp_path).searcher.suggest("tune0")
    assert (again["trial"], again["job"]) == (second["trial"], second["job"])


def test_each_objective_is_told_as_trials_csv_has_it(tmp_path):
    names = ["val_accuracy", "peak_memory_gib", "device_seconds", "epochs", "inference_ms_single"]
    more = "objectives:\n" + "".join(f"  - {{metric: {name}}}\n" for name in names)
    session = Session(tmp_path, sampler="random", scheduler="none", more=more)
    trial = session.searcher.suggest("tune0")["trial"]
    for epoch, (accuracy, peak) in enumerate([(0.2, 1.0), (0.9, 1.5), (0.5, 3.0), (0.4, 2.0)], start=1):
        facts = {"inference_ms_single": 7.0} if epoch == 1 else {}
        row = {"epoch": epoch, "val_accuracy": accuracy, "peak_memory_gib": peak, "device_seconds": 2.0, **facts}
        session.ledger.add(trial, row)
    session.searcher.on_trial_complete("tune0", {"end/state": "COMPLETE", "end/reason": "epochs"})
    assert session.journal.trials()[0].values == [0.9, 3.0, 8.0, 4.0, 7.0]
    line = records.read_rows(tmp_path / "trials.csv")[0]
    assert [line[name] for name in names] == [0.9, 3.0, 8.0, 4, 7.0]
    reserved = records.read_csv(tmp_path / "trials.csv")[0]["reserved_memory_gib"]
    assert reserved == ""  # no GPU had it


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["parzen", "tpe", "random", "qmc"])
def test_proposals_depend_on_the_folder_alone(tmp_path, sampler):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = play(Session(tmp_path / "a", trials=16, sampler=sampler), 16)
    parts = []
    for part in range(4):  # four lives of the driver
        parts += play(Session(tmp_path / "b", trials=16, sampler=sampler), 4, start=4 * part)
    assert parts == whole
    assert len({str(params) for _, params in whole}) > 10
    assert whole[0][1] == {"optim.lr": 1e-3, "model.kind": "late", "uda.mode": "dynamic", "uda.n": 3, "uda.k": 2}


def test_an_unfinished_trial_is_handed_out_again_before_anything_new(tmp_path):
    first = Session(tmp_path)
    play(first, 2)
    cut = first.searcher.suggest("tune9")
    first.report("tune9", cut["trial"], 1, 0.1)
    again = Session(tmp_path)
    assert again.searcher.num_unfinished == 1
    suggestion = again.searcher.suggest("x")
    assert (suggestion["trial"], suggestion["job"]["params"]) == (cut["trial"], cut["job"]["params"])
    assert again.ledger.trials[cut["trial"]].epoch == 1
    assert again.searcher.suggest("y")["trial"] == "t0003"


@pytest.mark.parametrize("end", [{"end/state": "COMPLETE"}, {"end/state": "FAILED", "end/error": "boom"}])
def test_an_end_that_reached_the_ledger_alone_is_told_by_the_next_session(tmp_path, monkeypatch, end):
    first = Session(tmp_path)
    trial = first.searcher.suggest("a")["trial"]
    for epoch in range(1, 5):
        first.report("a", trial, epoch, epoch / 10)
    for write in ("report", "note", "tell"):  # killed between the two writes
        monkeypatch.setattr(Journal, write, lambda *_, **__: None)
    first.searcher.on_trial_complete("a", end)
    monkeypatch.undo()
    assert first.journal.trials()[0].state.name == "RUNNING"
    again = Session(tmp_path)
    assert again.searcher.num_unfinished == 0
    frozen = again.journal.trials()[0]
    if end["end/state"] == "COMPLETE":
        assert (frozen.state.name, frozen.value) == ("COMPLETE", 0.4)
    else:
        assert (frozen.state.name, frozen.user_attrs["error"]) == ("FAIL", "boom")


def test_a_stop_that_was_recorded_holds_in_the_next_session(tmp_path):
    first = Session(tmp_path)
    trial = first.searcher.suggest("a")["trial"]
    first.ledger.add(trial, {"epoch": 1, "val_accuracy": 0.2, "stopped": True})  # killed before the trial ended
    again = Session(tmp_path)
    assert again.searcher.num_unfinished == 0
    assert again.ledger.trials[trial].state == "PRUNED"
    assert again.journal.trials()[0].state.name == "PRUNED"
    assert again.journal.trials()[0].intermediate_values == {1: 0.2}


def test_a_trial_cut_short_while_it_was_being_proposed_is_completed(tmp_path):
    session = Session(tmp_path, sampler="random")
    play(session, 1)
    trial = session.journal.ask(optuna.samplers.RandomSampler(seed=1))
    trial.suggest_float("optim.lr", 1e-4, 1e-2, log=True)  # killed here: the other parameters are not drawn
    again = Session(tmp_path, sampler="random")
    params = again.searcher.suggest("x")["job"]["params"]
    assert params["optim.lr"] == trial.params["optim.lr"]
    assert check(again.spec.space, params) == []


def test_the_budget_ends_proposals(tmp_path):
    spent = []
    session = Session(tmp_path, trials=3, is_spent=lambda: bool(spent))
    assert len(play(session, 9)) == 3
    session = Session(tmp_path, trials=9, is_spent=lambda: bool(spent))
    assert session.searcher.suggest("a")["trial"] == "t0003"
    spent.append(True)
    assert session.searcher.suggest("b") == "FINISHED"


def test_as_many_trials_as_slots_which_may_become_more(tmp_path):
    session = Session(tmp_path)
    session.slots = 1
    assert session.searcher.suggest("a")["trial"] == "t0000" and session.searcher.suggest("b") is None
    session.slots = 2
    assert session.searcher.suggest("b")["trial"] == "t0001" and session.searcher.suggest("c") is None
    session.report("a", "t0000", 1, 0.5)
    session.searcher.on_trial_complete("a", {"end/state": "FAILED"})
    assert session.searcher.suggest("c")["trial"] == "t0002"


def test_a_torn_journal_line_is_repaired(tmp_path):
    play(Session(tmp_path), 2)
    with (tmp_path / "optuna.log").open("ab") as file:
        file.write(b'{"op_code": 6, "trial_id": 1, "st')
    session = Session(tmp_path)
    assert [trial.state.name for trial in session.journal.trials()] == ["COMPLETE", "PRUNED"]
    play(session, 1, start=2)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "optuna.log")))
    assert len(optuna.load_study(study_name="s", storage=storage).trials) == 3  # as optuna-dashboard opens it


def test_a_million_seeds_do_not_collide_by_accident():
    from mmtune.search.samplers import SAMPLERS, make_sampler

    draws = set()
    for number in range(50):
        sampler = make_sampler("random", study_seed=1, number=number, options=SAMPLERS["random"].options())
        study = optuna.create_study(sampler=sampler)
        draws.add(study.ask().suggest_float("x", 0, 1))
    assert len(draws) == 50
    assert random.Random(0).random() not in draws
    assert records.trial_number(records.trial_id(1234567)) == 1234567


def climb(session, count, *, start=0, price=lambda params: 1.0):
    """Runs ``count`` jobs, each to the epoch that it was given; (trial, epochs known, ticket) of each."""
    jobs = []
    for index in range(start, start + count):
        suggestion = session.searcher.suggest(f"tune{index}")
        if suggestion == "FINISHED":
            break
        trial, record = suggestion["trial"], session.ledger.trials[suggestion["trial"]]
        jobs.append((trial, record.epoch, suggestion["ticket"]))
        value = score(suggestion["job"]["params"])
        for epoch in range(record.epoch + 1, record.until + 1):
            seconds = price(suggestion["job"]["params"])
            session.report(f"tune{index}", trial, epoch, value * epoch / 4, seconds=seconds)
        end = {"end/state": "COMPLETE"} if record.until == 4 else {"epoch": record.until}
        session.searcher.on_trial_complete(f"tune{index}", end)
    return jobs


def test_a_paused_trial_goes_on_under_a_ticket_of_its_own(tmp_path):
    session = Session(tmp_path, trials=9, scheduler="asha", sampler="random")  # rungs 1 and 4: 3 is too near to 4
    jobs = climb(session, 4)
    assert [job[:2] for job in jobs[:3]] == [("t0000", 0), ("t0001", 0), ("t0002", 0)]
    best = max(jobs[:3], key=lambda job: score(session.ledger.trials[job[0]].params))[0]
    assert jobs[3] == (best, 1, f"{best}-to-4")
    states = {name: record.state for name, record in session.ledger.trials.items()}
    assert states == {name: "COMPLETE" if name == best else "PAUSED" for name in states}
    assert [row["until_epoch"] for row in records.read_rows(tmp_path / "trials.csv")] == [
        4 if name == best else 1 for name in states
    ]
    shown = [trial.state.name for trial in session.journal.trials()]
    assert shown == ["COMPLETE" if name == best else "PRUNED" for name in states]  # as samplers see them
    stored = JournalStorage(JournalFileBackend(str(tmp_path / "optuna.log")))
    in_file = optuna.load_study(study_name="s", storage=stored).trials
    assert [trial.state.name for trial in in_file] == ["COMPLETE" if name == best else "RUNNING" for name in states]
    assert session.ended == [job[0] for job in jobs]


def test_the_end_of_a_study_prunes_what_is_paused(tmp_path):
    session = Session(tmp_path, trials=9, scheduler="asha")
    climb(session, 99)
    assert session.searcher.suggest("more") == "FINISHED" and len(session.ledger.trials) == 9
    counts = [record.state for record in session.ledger.trials.values()]
    assert counts.count("COMPLETE") in (3, 4)  # a third; and the best of all, should it be none of them
    session.searcher.prune_paused()
    assert not session.ledger.trials.paused() and not session.ledger.trials.unfinished()
    assert {trial.state.name for trial in Session(tmp_path).journal.trials()} == {"COMPLETE", "PRUNED"}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["parzen", "tpe"])
def test_jobs_depend_on_the_folder_alone(tmp_path, sampler):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = climb(Session(tmp_path / "a", trials=16, scheduler="asha", sampler=sampler), 99)
    parts = []
    for part in range(9):  # nine lives of the driver
        parts += climb(Session(tmp_path / "b", trials=16, scheduler="asha", sampler=sampler), 3, start=3 * part)
    assert parts == whole
    tables = [(tmp_path / name / "trials.csv").read_text().splitlines() for name in "ab"]
    assert [row.split(",")[:9] for row in tables[0]] == [row.split(",")[:9] for row in tables[1]]


@pytest.mark.slow
def test_turns_of_families_depend_on_the_folder_alone_and_not_on_the_noise_of_a_clock(tmp_path):
    families = """
study: s
family: {type: categorical, choices: [text, image]}
dataset: openclipart
fixed: {epochs: 4}
space: {optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}}
sampler: {name: parzen, seed: 7}
scheduler: {name: asha}
budget: {trials: 24, device_hours: 100}
"""
    noise = random.Random(3)

    def price(params):
        return (16.0 if params["family"] == "image" else 1.0) * noise.uniform(0.75, 1.3)

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    undisturbed = Session(tmp_path / "a", of=families)
    whole = climb(undisturbed, 99, price=price)
    parts = []
    for part in range(14):  # lives of the driver
        parts += climb(Session(tmp_path / "b", of=families), 3, start=3 * part, price=price)
    assert parts == whole and len(whole) < 3 * 14
    again = Session(tmp_path / "b", of=families).ledger.trials
    params = {name: record.params for name, record in undisturbed.ledger.trials.items()}
    assert {name: (record.params["family"], record.epoch) for name, record in again.items()} == {
        name: (params[name]["family"], record.epoch) for name, record in undisturbed.ledger.trials.items()
    }
    dear = [name for name in params if params[name]["family"] == "image"]
    assert 1 <= len(dear) <= 6  # of 24: an epoch of it costs sixteen


@pytest.mark.parametrize("epochs", [0, 1, 2, 3])
def test_a_promotion_that_was_cut_short_is_taken_up_where_it_was_going(tmp_path, epochs):
    first = Session(tmp_path, trials=9, scheduler="asha")
    climb(first, 3)
    cut = first.searcher.suggest("tune9")
    assert cut["ticket"].endswith("-to-4")
    for epoch in range(2, 2 + epochs):
        first.report("tune9", cut["trial"], epoch, 0.5)
    again = Session(tmp_path, trials=9, scheduler="asha")
    assert again.searcher.num_unfinished == 1
    taken = again.searcher.suggest("x")
    assert (taken["ticket"], taken["job"]) == (cut["ticket"], cut["job"])


def test_a_rung_that_was_reported_before_a_kill_is_a_pause(tmp_path):
    first = Session(tmp_path, trials=9, scheduler="asha")
    trial = first.searcher.suggest("a")["trial"]
    first.ledger.add(trial, {"epoch": 1, "val_accuracy": 0.2})  # killed before the trial was paused
    again = Session(tmp_path, trials=9, scheduler="asha")
    assert again.searcher.num_unfinished == 0 and again.ledger.trials[trial].state == "PAUSED"
    assert [(t.state.name, t.intermediate_values) for t in again.journal.trials()] == [("PRUNED", {1: 0.2})]


def test_workers_wait_for_what_may_be_promoted(tmp_path):
    session = Session(tmp_path, trials=3, scheduler="asha")
    trials = [session.searcher.suggest(f"tune{index}")["trial"] for index in range(3)]
    assert session.searcher.suggest("tune3") is None
    for index, trial in enumerate(trials):
        session.report(f"tune{index}", trial, 1, index / 10)
        session.searcher.on_trial_complete(f"tune{index}", {"epoch": 1})
    assert session.searcher.suggest("tune4")["ticket"] == "t0002-to-4"
    assert session.searcher.suggest("tune5") is None


def test_what_breaks_a_constraint_is_infeasible_and_cannot_be_best(tmp_path):
    limits = "constraints: {peak_memory_gib: <= 2, inference_ms_single: <= 5}\n"
    session = Session(tmp_path, scheduler="none", more=limits)
    shared = {"train_loss": 1.0, "device_seconds": 1.0}

    def begin(tune):
        return session.searcher.suggest(tune)["trial"]

    first, second, third = begin("tune0"), begin("tune1"), begin("tune2")
    session.ledger.add(first, {"epoch": 1, "val_accuracy": 0.9, "peak_memory_gib": 2.5, **shared})
    session.searcher.on_trial_complete("tune0", {"epoch": 1, "value": 0.9})
    for epoch in range(1, 5):  # the last epoch is over before anybody could stop it
        session.ledger.add(second, {"epoch": epoch, "val_accuracy": 0.8, "inference_ms_single": 7.0, **shared})
    session.searcher.on_trial_complete("tune1", {"end/state": "COMPLETE", "end/reason": "epochs"})
    session.ledger.add(third, {"epoch": 1, "val_accuracy": 0.5, "peak_memory_gib": 2.0, **shared})
    states = [session.ledger.trials[name].state for name in (first, second, third)]
    assert states == ["INFEASIBLE", "INFEASIBLE", "RUNNING"]
    errors = [session.ledger.trials[name].error for name in (first, second)]
    assert errors == ["constraint peak_memory_gib <= 2: it has 2.5", "constraint inference_ms_single <= 5: it has 7"]
    assert session.ledger.trials.best().trial == third
    assert session.journal.trials()[0].user_attrs["infeasible"] is True


def test_a_kill_between_a_report_and_its_constraint_is_put_right(tmp_path):
    limits = "constraints: {device_seconds: <= 3}\n"
    session = Session(tmp_path, scheduler="none", more=limits)
    trial = session.searcher.suggest("tune0")["trial"]
    session.ledger.add(trial, {"epoch": 1, "val_accuracy": 0.9, "train_loss": 1.0, "device_seconds": 4.0})
    again = Session(tmp_path, scheduler="none", more=limits)
    assert again.ledger.trials[trial].state == "INFEASIBLE"
    assert again.searcher.suggest("tune0")["trial"] != trial
