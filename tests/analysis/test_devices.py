"""Times of several kinds of devices never share an axis without a word."""

import html

import pandas as pd
import pytest

from analysis.curves import curves_figure
from analysis.devices import kinds, warning
from analysis.pareto import pareto_figure
from analysis.report import write_report
from analysis.studies import load_studies
from analysis.tables import cost_note, pareto_table, study_table


def two_kinds(studies):
    names = ["A100", "H100", "H100"]
    costs = [10.0, 20.0, 30.0]
    trials = [
        studies.trial(n, device_kind=name, device_seconds=cost, val_accuracy=0.4 + cost / 100)
        for n, (name, cost) in enumerate(zip(names, costs, strict=True))
    ]
    return studies.of(*trials)


@pytest.mark.slow
def test_the_kinds_are_named_where_times_are_compared(studies):
    path = two_kinds(studies)
    table = load_studies(path)
    assert kinds(table) == {"A100": 1, "H100": 2}
    said = warning(table, "device_seconds")
    assert said is not None and "2 kinds of devices" in said and "A100 (1 trial), H100 (2 trials)" in said
    assert (
        warning(table, "num_parameters") is None and warning(table[table["trial"] != "t0000"], "wall_seconds") is None
    )
    assert "A100, H100" in pareto_figure(table, "val_accuracy").axes[0].get_xlabel()
    assert "A100" not in pareto_figure(table, "val_accuracy", "num_parameters").axes[0].get_xlabel()
    assert [("A100" in axes.get_xlabel()) for axes in curves_figure(path).axes] == [False, True]
    for header, _ in (pareto_table(table, "val_accuracy", "max"), study_table(table, "val_accuracy", "max")):
        assert header[-1] == "device_kind"
    assert "do not compare" in write_report(path).html.read_text()


@pytest.mark.slow
def test_one_kind_needs_no_word_and_the_front_says_which_account_it_shows(studies):
    path = studies.of(studies.trial(0, device_kind="A100", cache_seconds=12.0))
    table = load_studies(path)
    assert table["device_seconds_alone"].tolist() == [42.0]
    assert warning(table, "device_seconds") is None
    assert "device_kind" not in pareto_table(table, "val_accuracy", "max")[0]
    notes = [cost_note(table, "val_accuracy", cost) for cost in ("device_seconds", "device_seconds_alone")]
    assert "caches.csv" in notes[0] and "by itself" in notes[1]
    axes = [pareto_figure(table, "val_accuracy", f"device_seconds{end}").axes[0] for end in ("", "_alone")]
    labels = [each.get_xlabel() for each in axes]
    assert "left out" in labels[0] and "included" in labels[1]
    files = write_report(path, cost="device_seconds_alone")
    assert pd.read_csv(files.pareto)["cost"].tolist()[0] == "device_seconds_alone"
    assert notes[1] in html.unescape(files.html.read_text())
