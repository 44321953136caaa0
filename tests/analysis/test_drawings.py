import pytest

from analysis.drawings import DRAWINGS, draw, drawing, write_table


def test_names_and_kinds_of_files_are_known(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'pareto'"):
        drawing("paretto", tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"x\.jpg has to end in \.png or \.svg"):
        drawing("fit", tmp_path / "x.jpg")
    with pytest.raises(ValueError, match=r"x\.csv has to end in \.png or \.svg"):
        drawing("fit", tmp_path / "x.csv")
    with pytest.raises(ValueError, match=r"x\.pdf has to end in \.png, \.svg or \.csv"):
        drawing("tasks", tmp_path / "x.pdf")
    for row in DRAWINGS.values():  # each is drawn by exactly one of three
        assert [row.figure is not None, row.table is not None, row.is_of_model].count(True) == 1


def test_a_table_is_a_picture_or_a_csv(studies, tmp_path):
    path = studies.of(studies.trial(0, inference_ms_per_sample=48.7))
    draw("models", path, tmp_path / "models.csv")
    header, line = (tmp_path / "models.csv").read_text().splitlines()
    assert dict(zip(header.split(","), line.split(","), strict=True))["family"] == "text"
    draw("models", path, tmp_path / "models.svg")
    assert (tmp_path / "models.svg").read_bytes().startswith(b"<?xml")
    with pytest.raises(ValueError, match="--metric does not go with it"):
        draw("tasks", path, tmp_path / "tasks.csv", metric="val_loss")


def test_text_in_a_table_is_no_formula(tmp_path):
    import pandas as pd

    write_table((["a$x$", "b"], [["$y_{", "1"]]), pd.DataFrame(), tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_not_tested_has_no_table(studies, tmp_path):
    with pytest.raises(ValueError, match="`mmtune test STUDY --without image --without text` does it"):
        draw("missing", studies.of(studies.trial(0)), tmp_path / "missing.png")
