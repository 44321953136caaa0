"""Searches replayed on recorded curves: what a search must cost and find there is known beforehand."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from mmtune import records
from mmtune.cli.app import app
from mmtune.search.samplers import ParzenOptions
from mmtune.search.schedulers import SCHEDULERS
from mmtune.spec.sampler import SamplerSpec
from mmtune.spec.search_spec import load_spec
from mmtune.spec.sections import Budget
from mmtune.study.box import Box
from mmtune.study.create import create_study
from mmtune.study.ledger import Ledger
from mmtune.study.simulate import Recording, compare, read_study, simulate, with_setting
from mmtune.study.tensorboard import param_kinds

EPOCHS = 9
SPEC = load_spec(f"""\
study: curves
family: text
dataset: openclipart
fixed: {{epochs: {EPOCHS}}}
space:
  optim.lr: {{type: float, low: 0.0001, high: 0.01, log: true}}
sampler: {{name: random}}
scheduler: {{name: none}}
budget: {{trials: 1}}
""")


def curves(num=27, *, state=records.COMPLETE):
    """Curves that never cross: the configuration with the larger learning rate is better after every epoch."""
    return [
        Recording(
            params={"optim.lr": 0.0001 * 100 ** (index / (num - 1))},
            values=tuple((index + epoch / EPOCHS) / num for epoch in range(EPOCHS)),
            seconds=(2.0,) * EPOCHS,
            state=state,
        )
        for index in range(num)
    ]


def asha(seed=1):
    return with_setting(SPEC, sampler="random", scheduler="asha", seed=seed)


@pytest.mark.parametrize("workers", [1, 4])
def test_whole_trainings_cost_what_they_cost_and_find_the_best(workers):
    search = simulate(SPEC, curves(), workers=workers, seconds=None, trials=27)
    assert (search.num_begun, search.num_whole) == (27, 27)
    spent, best = search.found[-1]
    assert len(search.found) == 27 * EPOCHS and spent == 27 * EPOCHS * 2.0
    assert best == pytest.approx((26 + 8 / 9) / 27)
    assert [value for _, value in search.found] == sorted(value for _, value in search.found)


@pytest.mark.parametrize("scheduler", ["none", "asha", "asha_stopping"])
def test_a_budget_ends_the_search_at_its_next_report(scheduler):
    spec = with_setting(SPEC, sampler="random", scheduler=scheduler, seed=3)
    search = simulate(spec, curves(), workers=3, seconds=61.0, trials=None)
    assert 61.0 <= search.found[-1][0] < 61.0 + 3 * 2.0


@pytest.mark.parametrize("own", SCHEDULERS)
@pytest.mark.parametrize("other", SCHEDULERS)
def test_any_schedule_is_simulated_in_place_of_any_other(own, other):
    as_it_is = with_setting(SPEC, sampler="random", scheduler=own, seed=1)
    search = simulate(with_setting(as_it_is, sampler="random", scheduler=other, seed=1), curves(), workers=1,
                      seconds=100.0, trials=27)  # fmt: skip
    assert search.num_begun >= 6 and search.found[-1][0] >= 100.0


def test_of_a_budget_of_time_a_quarter_of_a_rung_goes_on():
    """Of 27 that never cross nine or six may go on from epoch 2, as far as seconds allow."""
    of_time = replace(asha(), budget=Budget(device_hours=1.0))
    searches = [simulate(spec, curves(), workers=1, seconds=1e9, trials=27) for spec in (asha(), of_time)]
    assert [search.num_whole for search in searches] == [8, 6]


def test_promotion_trains_few_to_the_end_and_the_best_of_all():
    """Of 27 that never cross 9 may go on from epoch 2, as long as what they take, 7 epochs each, is at most 54."""
    search = simulate(asha(), curves(), workers=1, seconds=1e9, trials=27)
    assert search.num_begun == 27 and search.num_whole == 8
    assert search.found[-1][1] == pytest.approx((26 + 8 / 9) / 27)
    assert search.found[-1][0] < 0.5 * 27 * EPOCHS * 2.0


def test_the_same_settings_and_seed_give_the_same_search():
    first, again, other = (
        simulate(asha(seed), curves(), workers=4, seconds=200, trials=27) for seed in (5, 5, 6)
    )  # fmt: skip
    assert first == again != other


def of_two_objectives():
    """(accuracy, memory) in the end: (.2, 1), (.6, 3), (.5, 4), (.8, 5); the third is beaten. Two epochs of 10 s."""
    spec = load_spec(SPEC.text.replace("scheduler:", "objectives:\n  - {metric: val_accuracy, mode: max}\n"
        "  - {metric: peak_memory_gib, mode: min}\nscheduler:").replace(f"epochs: {EPOCHS}", "epochs: 2"))  # fmt: skip
    ends = [(0.2, 1.0), (0.6, 3.0), (0.5, 4.0), (0.8, 5.0)]
    recordings = [
        Recording(
            params={"optim.lr": 0.0001 * 100 ** (index / 3)}, values=(0.1, accuracy), seconds=(10.0, 10.0),
            state=records.COMPLETE, others={"peak_memory_gib": (memory, memory)},
        )
        for index, (accuracy, memory) in enumerate(ends)
    ]  # fmt: skip
    return spec, recordings


def test_fronts_of_several_objectives_are_shares_of_the_hypervolume_of_all():
    """In the box (.2 to .8) x (1 to 5) the front of all covers 4/6 x 2/4 by (.6, 3); its ends lie on edges."""
    spec, recordings = of_two_objectives()
    box = Box(recordings, [("val_accuracy", "max"), ("peak_memory_gib", "min")])
    assert box.share_of(np.array([[-0.6, 3.0]])) == pytest.approx(1)
    assert box.share_of(np.array([[-0.5, 4.0]])) == pytest.approx((3 / 6 * 1 / 4) / (4 / 6 * 2 / 4))
    assert box.share_of(np.array([[-0.2, 1.0], [-0.8, 5.0], [-np.inf, np.inf]])) == 0
    search = simulate(spec, recordings, workers=1, seconds=None, trials=4)
    assert box.share_of(search.front_at(80.0)) == pytest.approx(1)
    by_then = {trial: point for spent, trial, point in search.points if spent <= 35.0}
    assert len(by_then) == 2 and sorted(map(tuple, search.front_at(35.0))) == sorted(by_then.values())
    header, rows, _ = compare(spec, recordings, schedulers=["none"], samplers=["random"], workers=1, seconds=80,
                              seeds=[1, 2])  # fmt: skip
    assert header[2:6] == ["front at 10%", "front at 25%", "front at 50%", "front at 100%"]
    assert rows[0][2] == "-" and rows[0][5] == "1.0000"


FAMILIES = load_spec(SPEC.text.replace("family: text", "family: {type: categorical, choices: [text, fusion]}"))


def of_families(num, *, dear=16):
    """As many curves of each, which never cross either; an epoch of fusion costs so many of text."""
    return [
        replace(one, params={**one.params, "family": family}, seconds=(price,) * EPOCHS)
        for family, price in (("text", 1.0), ("fusion", float(dear)))
        for one in curves(num)
    ]


EVEN = replace(FAMILIES, sampler=SamplerSpec(name="parzen", seed=2, options=ParzenOptions(even_share=1)))


def test_a_family_whose_recordings_were_all_taken_has_no_others():
    search = simulate(EVEN, of_families(3), workers=1, seconds=None, trials=24)
    assert (search.num_begun, search.num_whole) == (24, 24)
    assert search.found[-1][0] == 12 * EPOCHS + 12 * EPOCHS * 16


@pytest.mark.slow
def test_families_share_the_seconds_where_seconds_are_the_budget():
    seconds = 2 * 20 * 16.0 * EPOCHS  # half of it is 20 trainings of the dear family, and 320 of the other
    by_seconds = simulate(EVEN, of_families(400), workers=1, seconds=seconds, trials=None)
    assert by_seconds.num_begun == pytest.approx(20 + 320, rel=0.05)
    by_trials = simulate(EVEN, of_families(400), workers=1, seconds=None, trials=40)
    assert by_trials.found[-1][0] == 20 * EPOCHS + 20 * EPOCHS * 16


def test_a_diverged_trial_fails_where_it_failed():
    broken = [*curves(3), Recording({"optim.lr": 0.005}, (None,), (2.0,), records.FAILED)]
    search = simulate(SPEC, broken, workers=1, seconds=1e9, trials=4)
    assert (search.num_begun, search.num_whole) == (4, 3)
    assert search.found[-1][0] == (3 * EPOCHS + 1) * 2.0


def test_a_curve_that_a_search_cut_keeps_its_last_value_and_that_is_said():
    cut = [Recording({"optim.lr": 0.001}, (0.5, 0.75), (2.0, 4.0), records.PRUNED)]
    search = simulate(SPEC, cut, workers=1, seconds=1e9, trials=1)
    assert search.found == [(2.0, 0.5), *((6.0 + 3 * more, 0.75) for more in range(8))]
    how = {"schedulers": ["none"], "samplers": None, "workers": 1, "seconds": 30.0, "seeds": [1]}
    _, ((_, _, *cells),), remarks = compare(SPEC, cut, **how)
    assert cells == ["0.5000", "0.7500", "0.7500", "0.7500", "1.0", "1.0"]  # at 3, 7.5, 15 and 30 s
    assert remarks[1].startswith("1 of 1 curves were cut before epoch 9")


def test_null_is_a_choice_like_others(tmp_path):
    text = SPEC.text.replace("space:\n", "space:\n  optim.grad_clip: {type: categorical, choices: [null, 1.0]}\n")
    spec = load_spec(text)
    folder = create_study(spec, storage=tmp_path)
    ledger = Ledger(folder, objective=("val_accuracy", "max"), params=param_kinds(spec.space), max_epochs=spec.epochs)
    for name, clip in (("t0000", None), ("t0001", 1.0)):
        ledger.start(name, {"optim.grad_clip": clip, "optim.lr": 0.001})
        ledger.add(name, {"epoch": 1, "val_accuracy": 0.5, "device_seconds": 1.0})
    ledger.close()
    _, recordings = read_study(folder.root)
    assert [recording.params["optim.grad_clip"] for recording in recordings] == [None, 1.0]


def test_the_objectives_of_a_study_are_read_from_reports_and_from_trials(tmp_path):
    """What is reported by epoch, and what a trial has once; then the command compares fronts, by all schedules."""
    more = "\n  - {metric: peak_memory_gib}\n  - {metric: num_parameters}\nscheduler:"
    spec = load_spec(SPEC.text.replace("scheduler:", f"objectives:\n  - {{metric: val_accuracy}}{more}"))
    folder = create_study(spec, storage=tmp_path)
    ledger = Ledger(folder, objective=("val_accuracy", "max"), params=param_kinds(spec.space), max_epochs=spec.epochs)
    for index, (memory, size) in enumerate([(0.5, 30), (0.25, 20), (0.75, 10)]):
        name = records.trial_id(index)
        ledger.start(name, {"optim.lr": 0.001 * (index + 1)})
        for epoch in range(1, EPOCHS + 1):
            row = {"val_accuracy": 0.1 * index + 0.05 * epoch, "device_seconds": 1.0, "peak_memory_gib": memory}
            ledger.add(name, {"epoch": epoch, **row})
        ledger.end(name, records.COMPLETE, facts={"num_parameters": size})
    ledger.close()
    _, recordings = read_study(folder.root)
    assert [one.others["peak_memory_gib"] for one in recordings] == [(m,) * EPOCHS for m in (0.5, 0.25, 0.75)]
    assert [one.others["num_parameters"] for one in recordings] == [(n,) * EPOCHS for n in (30, 20, 10)]
    done = CliRunner().invoke(app, ["simulate", str(folder.root), "--seeds", "1", "--budget", "1"])
    assert done.exit_code == 0 and "front at 100%" in done.output
    rows = [line.split() for line in done.output.splitlines()]
    assert {row[5] for row in rows if row[0] == "none"} == {"1.0000"}
    assert {row[0] for row in rows} >= SCHEDULERS.keys()


def test_names_that_there_are_not():
    with pytest.raises(ValueError, match=r"'parsen' is unknown, did you mean 'parzen'\?"):
        with_setting(SPEC, sampler="parsen", scheduler="asha", seed=1)
    with pytest.raises(ValueError, match="'asah' is unknown, did you mean 'asha'"):
        with_setting(SPEC, sampler="parzen", scheduler="asah", seed=1)
    with pytest.raises(ValueError, match="'brute_force' needs a step in each float; without one: optim.lr"):
        with_setting(SPEC, sampler="brute_force", scheduler="asha", seed=1)


def mmtune(*arguments, cwd):
    command = [sys.executable, "-m", "mmtune.cli", *arguments]
    return subprocess.run(command, cwd=cwd, text=True, stdout=subprocess.PIPE, check=True, timeout=1500).stdout


@pytest.mark.slow
def test_a_study_replayed_by_its_own_settings_is_that_study(tmp_path):
    """Every decision of a real study of one slot, on real Ray: the same reports in the same order."""
    sets = ("budget.trials=8", "fixed.epochs=4", "resources.concurrent_trials=1", "scheduler={name: asha}")
    mmtune("run", "smoke/text", "--name", "own", *(part for one in sets for part in ("--set", one)), cwd=tmp_path)
    found, spent, best = [], 0.0, 0.0
    with (tmp_path / "studies/own/reports.csv").open() as file:
        for row in csv.DictReader(file):
            spent, best = spent + float(row["device_seconds"]), max(best, float(row["val_accuracy"]))
            found.append((pytest.approx(spent), best))
    spec, recordings = read_study(tmp_path / "studies/own")
    search = simulate(spec, recordings, workers=1, seconds=None, trials=8)
    assert search.found == found and search.num_begun == 8
    out = mmtune("simulate", "own", "--schedulers", "asha,none", "--seeds", "2", cwd=tmp_path)
    assert [line.split()[:2] for line in out.splitlines()[1:5]] == [
        ["asha", "parzen"], ["asha", "random"], ["none", "parzen"], ["none", "random"],
    ]  # fmt: skip
    assert re.search(r"2 searches a setting, 1 worker, [\d.]+ of the [\d.]+ device-seconds recorded", out)
