"""Mistakes with best, pareto and report; what they print of a study that ran is in tests/mmtune/study."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("verb", ["best", "pareto", "report"])
def test_folders_that_are_no_studies(mmtune, verb):
    (mmtune.cwd / "photos").mkdir()
    assert mmtune.refused(verb, "photos") == "photos: not a study folder (no study.json and spec.yaml in it)"
    assert mmtune.refused(verb, "nowhere") == "nowhere: no such study folder"


def test_a_study_without_finished_trials(mmtune, write_study):
    write_study(mmtune.cwd, "RUNNING", "FAILED")
    said = mmtune.refused("best", "s")
    assert said == "s: no finished trial with a finite val_accuracy yet (1 RUNNING, 1 FAILED)"
    empty = write_study(mmtune.cwd, name="empty")
    assert mmtune.refused("best", "empty", "--export", "best.yaml") == f"{empty.root}: no trial yet"


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["pareto", "report"])
@pytest.mark.parametrize("option", ["--cost", "--metric"])
def test_unknown_metrics_and_costs(mmtune, write_study, verb, option):
    write_study(mmtune.cwd, "COMPLETE", "PRUNED")
    message = mmtune.refused(verb, "s", option, "device_secnds")
    assert message.startswith("'device_secnds' is unknown, did you mean 'device_seconds'?")
    assert "val_ap_micro" in message and "num_parameters" in message


@pytest.mark.slow
def test_a_front_of_three_axes_and_what_goes_with_one_cost_only(mmtune, write_study):
    write_study(mmtune.cwd, "COMPLETE", "PRUNED")
    said = mmtune.refused("pareto", "s", "--cost", "epochs,num_parameters,device_seconds")
    assert said == "--cost: 3 costs given; a front has two or three axes, the metric among them"
    assert mmtune.refused("pareto", "s", "--cost", "epochs,device_seconds", "--under", "3").startswith("--under and")
    assert "epochs, epochs" in mmtune.refused("pareto", "s", "--cost", "epochs,epochs")
    assert "device_seconds" in mmtune("pareto", "s", "--cost", "epochs,device_seconds").out
    lines = mmtune("pareto", "s", "--cost", "epochs", "--under", "0", "--within", "1").out.splitlines()
    assert lines[-2] == "best with epochs of at most 0 epochs: no trial"
    assert lines[-1].startswith("cheapest within 1 of the best val_accuracy: t000")


@pytest.mark.slow
def test_figures_by_name(mmtune, write_study):
    write_study(mmtune.cwd, "COMPLETE", "PRUNED")
    assert mmtune.refused("figure", "paretto", "s").startswith("figure 'paretto' is unknown, did you mean 'pareto'?")
    assert mmtune("figure", "pareto", "s", "--out", "front.svg").out == "written: front.svg\n"
    assert (mmtune.cwd / "front.svg").read_bytes().startswith(b"<?xml")
