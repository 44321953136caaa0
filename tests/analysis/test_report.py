import math
import random
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis.pareto import pareto_figure
from analysis.report import write_report
from analysis.studies import load_studies


def a_study(studies, name="demo"):
    generator = random.Random(0)
    families = ["text", "image", "fusion"]
    trials = [
        studies.trial(
            n,
            family=families[n % 3],
            state="COMPLETE" if n % 2 else "PRUNED",
            val_accuracy=generator.random(),
            device_seconds=math.exp(5 * generator.random()),
        )
        for n in range(12)
    ]
    return studies.of(*trials, studies.trial(12, state="FAILED", error="it broke"), name=name)


@pytest.mark.slow
def test_report_has_all_parts_and_can_be_made_again(studies):
    path = a_study(studies)
    files = write_report(path)
    parts = {"summary.csv", "families.csv", "pareto.csv", "fronts.csv", "models.csv", "importance.csv"}
    parts |= {"best.yaml", "best"}
    parts |= {"pareto.png", "curves.png", "report.html"}
    assert {file.name for file in (path / "report").iterdir()} == parts
    table = load_studies(path)
    summary = pd.read_csv(files.summary)
    assert len(summary) == len(table)
    assert summary["rank"].dropna().tolist() == list(range(1, 13))
    values = summary["val_accuracy"].tolist()[:12]
    assert values == sorted(values, reverse=True)
    config = yaml.safe_load((path / "trials" / summary["trial"][0] / "config.yaml").read_text())
    assert yaml.safe_load(files.best.read_text()) == config
    fronts = pd.read_csv(files.pareto)
    assert set(fronts["cost"]) == {"device_seconds", "wall_seconds", "peak_memory_gib", "num_parameters", "epochs"}
    front = fronts.loc[fronts["cost"] == "device_seconds"]
    assert front["cost_value"].tolist() == front["device_seconds"].tolist() == sorted(front["device_seconds"])
    assert set(front["cost_unit"]) == {"s"}
    assert front["trial"].iloc[-1] == summary["trial"][0]  # the dearest of the front is the best of all
    assert set(pd.read_csv(files.families)["family"]) == {"text", "image", "fusion"}
    for picture in (files.pareto_png, files.curves_png):
        assert picture.read_bytes().startswith(b"\x89PNG")
    for family in ("text", "image", "fusion"):
        row = summary.loc[summary["family"] == family].iloc[0]
        config = yaml.safe_load((path / "trials" / row["trial"] / "config.yaml").read_text())
        assert yaml.safe_load((files.best_by_family / f"{family}.yaml").read_text()) == config
    times = [*summary["started"], *summary["ended"]]
    assert all(re.fullmatch(r"2026-01-02T03:0\d:05Z", time) for time in times)
    before = {file: file.read_bytes() for file in files.html.parent.rglob("*.*")}
    write_report(path)
    assert {file: file.read_bytes() for file in files.html.parent.rglob("*.*")} == before


@pytest.mark.slow
def test_several_studies_need_a_folder(studies, tmp_path):
    paths = [a_study(studies, "one"), a_study(studies, "two $x_$")]
    with pytest.raises(ValueError, match="2 studies given: name the folder"):
        write_report(paths)
    files = write_report(paths, tmp_path / "both", metric="val_loss", cost="peak_memory_gib")
    assert set(pd.read_csv(files.summary)["study"]) == {"one", "two $x_$"}
    assert "one/t0" in files.html.read_text()


def test_nothing_is_written_when_the_report_cannot_be_made(studies, tmp_path):
    early = studies.of(studies.trial(0, state="FAILED"), name="early")
    with pytest.raises(ValueError, match="early: no finished trial"):
        write_report(early)
    with pytest.raises(ValueError, match="did you mean 'wall_seconds'"):
        write_report(a_study(studies), cost="wall_second")
    with pytest.raises(ValueError, match="no finished trial has both val_accuracy and inference_ms_per_sample"):
        write_report(a_study(studies), cost="inference_ms_per_sample")
    assert not list(tmp_path.glob("*/report"))


@pytest.mark.slow
def test_a_study_of_one_trial_has_a_report(studies):
    write_report(studies.of(studies.trial(0, epochs=1, best_epoch=1), family="text"))


@pytest.mark.parametrize(("dearest", "scale"), [(50.0, "linear"), (500.0, "log")])
def test_cost_axis_is_logarithmic_over_more_than_a_decade(studies, dearest, scale):
    path = studies.of(studies.trial(0, device_seconds=10.0), studies.trial(1, val_accuracy=0.6, device_seconds=dearest))
    axes = pareto_figure(load_studies(path), "val_accuracy").axes[0]
    assert axes.get_xscale() == scale
    assert axes.get_xlabel() == "Device time of the trial, shared caches left out (s)"


def test_front_is_drawn_as_a_step(studies):
    path = studies.of(*(studies.trial(n, val_accuracy=0.5 + n / 10, device_seconds=10.0 + n) for n in range(3)))
    axes = pareto_figure(load_studies(path), "val_accuracy").axes[0]
    (line,) = (line for line in axes.lines if line.get_drawstyle() == "steps-post")
    assert np.asarray(line.get_xdata())[:3].tolist() == [10, 11, 12]
    assert np.asarray(line.get_ydata()).tolist() == pytest.approx([0.5, 0.6, 0.7, 0.7])
