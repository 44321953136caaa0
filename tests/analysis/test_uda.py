"""Curves under UDA, of small studies that fix it: which trials are drawn, how, and with which values."""

import numpy as np
import pytest

from analysis.studies import load_studies
from analysis.uda import LAM, MODE, VIEWS, NotThere, fit_figure, overlay_figure, ratio_figure, regimes_figure, with_uda

FIXED = {"epochs": 20, "batch_size": 32}


def a_study(studies, name="demo", cases=("warmup", 1, 3), accuracy=0.5, epochs=3, **uda):
    trial = studies.trial(0, val_accuracy=accuracy, epochs=epochs, best_epoch=epochs)
    rows = studies.reports(trial)
    for row, case, ratio in zip(rows, cases, (1.0, 1.5, 0.5), strict=False):
        row |= {"uda_case": case, "uda_ratio": ratio, "train_accuracy": accuracy + ratio / 4}
    return studies.write(name, [trial], rows, fixed=FIXED | {f"uda.{key}": value for key, value in uda.items()})


def lines(axes):
    """(line style, values) of each curve."""
    return [(line.get_linestyle(), list(np.round(line.get_ydata(), 4))) for line in axes.lines]


def test_uda_is_what_was_searched_else_what_is_fixed_else_the_default(studies):
    paths = [a_study(studies, "plain"), a_study(studies, "moved", mode="dynamic", lam=3.0, views="text")]
    table = with_uda(paths, load_studies(paths)).set_index("study")
    assert table.loc["plain", [MODE, LAM, VIEWS]].to_list() == ["none", 1.0, "both"]
    assert table.loc["moved", [MODE, LAM, VIEWS]].to_list() == ["dynamic", 3.0, "text"]
    searched = with_uda(paths, load_studies(paths).assign(**{MODE: ["aug", None]})).set_index("study")
    assert searched[MODE].to_dict() == {"plain": "aug", "moved": "dynamic"}


def test_ratio_is_coloured_by_its_case(studies):
    axes = ratio_figure(a_study(studies, mode="dynamic"), "val_accuracy", "max").axes[0]
    dots = {}
    for own in axes.collections:
        (place,), (colour,) = np.asarray(own.get_offsets()).tolist(), np.asarray(own.get_facecolor()).tolist()
        dots[tuple(place)] = tuple(round(part, 2) for part in colour[:3])
    assert dots[2.0, 1.5] == (0.84, 0.37, 0.0) and dots[3.0, 0.5] == (0.0, 0.62, 0.45)  # red, green
    assert dots[1.0, 1.0] == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="other: no finished trial with uda.mode=dynamic"):
        ratio_figure(a_study(studies, "other", mode="fixed"), "val_accuracy", "max")


def test_fit_draws_training_dotted_beside_validation(studies):
    axes = fit_figure(a_study(studies), "val_accuracy", "max").axes[0]
    assert lines(axes) == [("-", [0.1667, 0.3333, 0.5]), (":", [0.75, 0.875, 0.625])]
    assert axes.get_ylabel() == "Accuracy"


def test_without_uda_is_dotted_and_dynamic_uda_solid(studies):
    base = a_study(studies, "base", accuracy=0.3)
    worse = a_study(studies, "worse", accuracy=0.2)
    dynamic = a_study(studies, "moved", accuracy=0.6, mode="dynamic")
    axes = overlay_figure([base, worse, dynamic], "val_accuracy", "max").axes[0]
    assert lines(axes) == [
        (":", [0.1, 0.2, 0.3]), (":", [0.55, 0.675, 0.425]), ("-", [0.2, 0.4, 0.6]), ("-", [0.85, 0.975, 0.725]),
    ]  # fmt: skip
    colours = [line.get_color() for line in axes.lines]
    assert colours[0] == colours[2] != colours[1] == colours[3]  # validation, training
    with pytest.raises(ValueError, match=r"base, worse: no family has .* uda.mode=none and with dynamic"):
        overlay_figure([base, worse], "val_accuracy", "max")


def test_small_and_large_lambda_are_of_trials_that_trained_long(studies):
    """1000 is the largest, but of a trial that was stopped after one of three epochs."""
    paths = [
        a_study(studies, f"lam{at}", accuracy=accuracy, epochs=epochs, mode="fixed", lam=lam)
        for at, (lam, accuracy, epochs) in enumerate([(0.5, 0.4, 3), (0.1, 0.3, 2), (20.0, 0.2, 3), (1000.0, 0.1, 1)])
    ]
    paths.append(a_study(studies, "moved", accuracy=0.6, mode="dynamic"))
    figure = regimes_figure(paths, "val_accuracy", "max")
    assert [axes.get_title() for axes in figure.axes] == [
        "small: λ = 0.1  (lam1/t0000)", "large: λ = 20  (lam2/t0000)", "dynamic λ  (moved/t0000)",
    ]  # fmt: skip
    assert [lines(axes)[0] for axes in figure.axes] == [
        ("-", [0.15, 0.3]), ("-", [0.0667, 0.1333, 0.2]), ("-", [0.2, 0.4, 0.6]),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="with uda.mode=fixed and with dynamic"):
        regimes_figure(paths[:4], "val_accuracy", "max")
    with pytest.raises(ValueError, match="have the same uda.lam"):
        regimes_figure([paths[0], paths[4]], "val_accuracy", "max")


def test_training_rows_without_the_metric_are_named(studies):
    trial = studies.trial(0)
    with pytest.raises(ValueError, match="demo/t0000: its reports have no train_accuracy"):
        fit_figure(studies.of(trial), "val_accuracy", "max")


def test_reports_without_a_ratio_are_named(studies):
    path = studies.write(
        "s", [trial := studies.trial(0)], studies.reports(trial), fixed=FIXED | {"uda.mode": "dynamic"}
    )
    with pytest.raises(NotThere, match="t0000: its reports have no uda_ratio and uda_case"):
        ratio_figure(path, "val_accuracy", "max")
