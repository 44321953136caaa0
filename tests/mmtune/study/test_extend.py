"""A finished study goes on with a larger budget; what its trials mean cannot change."""

from __future__ import annotations

import csv
import subprocess
import sys

import pytest

from mmtune.records import read_json
from mmtune.spec.search_spec import load_spec
from mmtune.study.create import create_study
from mmtune.study.extend import extended, write_extended
from mmtune.study.run import run_study

SPEC = load_spec("""\
study: s
family: text
dataset: openclipart
space:
  optim.lr: {type: float, low: 0.0001, high: 0.01, log: true}
budget: {trials: 2}  # the first look
""")


@pytest.fixture
def folder(tmp_path):
    return create_study(SPEC, storage=tmp_path)


def test_budget_and_what_does_not_touch_the_trials(folder):
    changes = ["budget.trials=40", "budget.device_hours=2", "resources.concurrent_trials=1"]
    spec = extended(folder, SPEC, changes)
    assert load_spec(folder.spec).budget.trials == 2  # nothing is written yet
    write_extended(folder, spec, read_json(folder.info))
    again = load_spec(folder.spec)
    assert (again.budget.trials, again.budget.device_hours, again.resources.concurrent_trials) == (40, 2.0, 1)
    assert read_json(folder.info)["budget"]["trials"] == 40
    assert (again.space, again.fixed, again.sampler) == (SPEC.space, SPEC.fixed, SPEC.sampler)


@pytest.mark.parametrize(
    "override, message",
    [
        ("fixed.epochs=9", "--set fixed.epochs=9: the study's trials would not be those of one search any more"),
        (
            "space.optim.lr.high=0.1",
            "may change budget.trials, budget.epochs, budget.device_hours, budget.wall_hours, resources",
        ),
        ("sampler.seed=2", "not be those of one search"),
        ("resources.workers=2", "resources.workers would change"),
        ("resources={workers: 2}", "resources.workers would change"),
        ("budget.trails=4", "did you mean 'trials'"),
        ("budget.trials=0", "0 must be at least 1"),
        ("budget={}", "give trials"),
    ],
)
def test_what_cannot_change_is_refused_and_nothing_is_lost(folder, override, message):
    before = folder.spec.read_bytes(), folder.info.read_bytes()
    with pytest.raises(ValueError) as caught:
        extended(folder, SPEC, [override])
    assert message in str(caught.value)
    assert before == (folder.spec.read_bytes(), folder.info.read_bytes())


def test_an_override_beside_something_that_is_refused_is_not_written(folder, tmp_path):
    before = folder.spec.read_bytes(), folder.info.read_bytes()
    with pytest.raises(ValueError, match="is embedded and reads no folder"):
        run_study(folder, overrides=["budget.trials=9"], data_dir=str(tmp_path), say=None)
    with pytest.raises(ValueError, match="concurrent"):
        run_study(folder, overrides=["resources.concurrent_trials=100000"], say=None)
    assert before == (folder.spec.read_bytes(), folder.info.read_bytes())


@pytest.mark.slow
def test_a_finished_study_goes_on(tmp_path):
    """On real Ray: two trials, then a third; the first two stay as they were."""

    def mmtune(*arguments):
        command = [sys.executable, "-m", "mmtune.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=1500)

    def trials():
        with (tmp_path / "studies/s/trials.csv").open() as file:
            return list(csv.DictReader(file))

    (tmp_path / "s.yaml").write_text(SPEC.to_yaml())
    small = [
        "fixed.epochs=1", "fixed.max_train_rows=64", "fixed.max_text_len=16", "fixed.model.text_encoder=tiny-bert",
        "resources.concurrent_trials=1",
    ]  # fmt: skip
    first = mmtune("run", "s.yaml", *(part for one in small for part in ("--set", one)))
    assert first.returncode == 0, first.stderr
    before = trials()
    refused = mmtune("resume", "s", "--set", "fixed.epochs=3")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr and trials() == before
    more = mmtune("resume", "s", "--set", "budget.trials=3")
    assert more.returncode == 0 and "finished" in more.stdout, more.stderr
    after = trials()
    assert [row["trial"] for row in after] == ["t0000", "t0001", "t0002"] and after[:2] == before
