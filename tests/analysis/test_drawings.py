import numpy as np
import pytest

from analysis.drawings import FIGURES, draw, fit_figure, ratio_figure
from analysis.studies import load_studies


def a_study(studies, cases=("warmup", 1, 3)):
    trial = studies.trial(0)
    rows = studies.reports(trial)
    for row, case, ratio in zip(rows, cases, (1.0, 1.5, 0.5), strict=True):
        row |= {"uda_case": case, "uda_ratio": ratio, "train_accuracy": ratio / 2}
    return studies.write("demo", [trial], rows)


def with_mode(monkeypatch, kind):
    monkeypatch.setattr(
        "analysis.drawings.load_studies", lambda paths: load_studies(paths).assign(**{"uda.mode": kind})
    )


def test_ratio_is_coloured_by_its_case(studies, monkeypatch):
    with_mode(monkeypatch, "dynamic")
    axes = ratio_figure(a_study(studies), "val_accuracy", "max").axes[0]
    dots = {}
    for own in axes.collections:
        (place,), (colour,) = np.asarray(own.get_offsets()).tolist(), np.asarray(own.get_facecolor()).tolist()
        dots[tuple(place)] = tuple(round(part, 2) for part in colour[:3])
    assert dots[2.0, 1.5] == (0.84, 0.37, 0.0) and dots[3.0, 0.5] == (0.0, 0.62, 0.45)  # red, green
    assert dots[1.0, 1.0] == (0.5, 0.5, 0.5)
    with_mode(monkeypatch, "fixed")
    with pytest.raises(ValueError, match="no finished trial with uda.mode=dynamic"):
        ratio_figure(a_study(studies), "val_accuracy", "max")


def test_fit_draws_training_dotted_beside_validation(studies):
    training, validation = fit_figure(a_study(studies), "val_accuracy", "max").axes[0].lines
    assert training.get_linestyle() == ":" and list(training.get_ydata()) == [0.5, 0.75, 0.25]
    assert list(validation.get_ydata()) == pytest.approx([0.5 / 3, 1 / 3, 0.5])


@pytest.mark.slow
def test_files_are_png_or_svg_and_names_are_known(studies, tmp_path):
    path = a_study(studies)
    draw("fit", path, tmp_path / "fit.svg")
    assert (tmp_path / "fit.svg").read_bytes().startswith(b"<?xml")
    draw("fit", path, tmp_path / "fit.png")
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="did you mean 'pareto'"):
        draw("paretto", path, tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"has to end in \.png or \.svg"):
        draw("fit", path, tmp_path / "x.jpg")
    assert {*FIGURES} == {"pareto", "curves", "fit", "ratio"}
