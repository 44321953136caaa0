import numpy as np
import pytest

from analysis.curves import curves_figure, load_curves


def test_curves_have_one_point_an_epoch_and_the_real_cost(studies):
    trial = studies.trial(0, epochs=4, device_seconds=40.0)
    path = studies.write("demo", [trial], studies.reports(trial, [1, 2, 3, 3, 4]))
    curve = load_curves(path, "val_accuracy")
    assert curve["epoch"].tolist() == [1, 2, 3, 4]
    assert curve["cumulative_device_seconds"].tolist() == [10, 20, 40, 50]


def test_the_best_trials_are_drawn_over_all_others(studies):
    trials = [studies.trial(n, val_accuracy=0.1 + n / 10, epochs=2 + n) for n in range(5)]
    figure = curves_figure(studies.of(*trials), top=2)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["t0004  text  0.5000", "t0003  text  0.4000", "other text trials"]
    epochs, spent = figure.axes
    assert epochs.get_ylabel() == "Validation accuracy"
    assert spent.get_xlabel() == "Device time spent so far (s)"
    leaders = [np.asarray(line.get_ydata()) for line in epochs.lines if line.get_linewidth() == 1.9]
    np.testing.assert_allclose(max(leaders, key=np.max), 0.5 * np.arange(1, 7) / 6)


def test_epochs_without_a_value_are_left_out(studies):
    trial = studies.trial(0)
    reports = studies.reports(trial)
    reports[1]["val_accuracy"] = float("nan")
    path = studies.write("demo", [trial], reports)
    assert load_curves(path, "val_accuracy")["epoch"].tolist() == [1, 3]
    with pytest.raises(ValueError, match=r"reports\.csv: no report has val_auroc"):
        load_curves(path, "val_auroc")


def test_nothing_to_draw(studies):
    trial = studies.trial(0, val_accuracy=None)
    path = studies.write("demo", [trial], [row | {"val_accuracy": float("nan")} for row in studies.reports(trial)])
    with pytest.raises(ValueError, match="demo: no report has a finite val_accuracy"):
        curves_figure(path)
