"""Tables and picture of a check.json, without a dataset."""

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from analysis.datacheck import check_problems, check_tables, check_verdict, samples_picture


def by_split(train: float, val: float, test: float) -> dict[str, Any]:
    return {"train": train, "val": val, "test": test}


def percentiles(*values: float) -> dict[str, float]:
    return dict(zip(("5", "25", "50", "75", "95", "100"), values, strict=True))


@pytest.fixture
def check() -> dict[str, Any]:
    """A data set with everything; what a table does not show is left out."""
    target = {
        "kind": "multiclass", "labelled": by_split(8, 2, 1), "baseline_metric": "accuracy",
        "baseline": by_split(0.75, 0.5, 0), "classes": {"cat": by_split(2, 1, 0), "dog": by_split(6, 1, 1)},
        "smallest": {"name": "cat", "rows": 2}, "largest": {"name": "dog", "rows": 6}, "cardinality": None,
        "empty": None, "moments": None, "named_share": 0.25, "contradicting_rows": 3,
    }  # fmt: skip
    moments = {"train": {"mean": 1.5, "deviation": 0.5, "min": 0.0, "max": 4.0}}
    number = target | {
        "kind": "regression", "baseline_metric": "rmse", "baseline": by_split(0.5, 0.6, 0.7), "classes": {},
        "smallest": None, "largest": None, "moments": moments, "named_share": None, "contradicting_rows": 0,
    }  # fmt: skip
    matrix = {row: by_split(1, 2, 3) for row in ("train", "val", "test")}
    alone = {"metric": "accuracy", "score": 0.9, "baseline": 0.75, "gain": 0.6}
    tokens = {
        "percentiles": percentiles(1, 2, 3, 4, 5.5, 600), "max_text_len": 128, "cut_share": 0.125, "limit": 512,
        "over_limit_share": 0.01,
    }  # fmt: skip
    return {
        "rows": by_split(1234, 2, 1),
        "targets": {"animal": target, "age": number},
        "text": {"empty": by_split(1, 0, 0), "characters": percentiles(*range(6)), "tokens": {"tiny-bert": tokens}},
        "image": {
            "unreadable": by_split(0, 1, 0), "pictures": 10, "kinds": {"PNG": 9, "JPEG": 1}, "modes": {"RGB": 10},
            "plain": 2, "width": percentiles(*range(6)), "height": percentiles(*range(6)),
            "aspect": percentiles(0.1234, 1, 1, 1, 1, 1),
        },
        "copies": {"text": {"exact": matrix, "near": matrix}, "image file": {"exact": matrix, "near": None}},
        "numeric": {
            "price": {"missing_share": 0.5, "is_constant": True, "correlation": {"animal": None, "age": 0.25}}
        },
        "categorical": {
            "shop": {"values": 5, "train_values": 4, "missing_share": 0.0, "unseen_share": {"val": 0.1, "test": None},
                     "alone": {"animal": alone, "age": None}}
        },
        "graphs": {
            "links": {"nodes": 7, "linked_nodes": 6, "edges": 2000, "isolated": by_split(0, 0, 1),
                      "unseen_share": {"val": 0.5, "test": None}}
        },
    }  # fmt: skip


def test_tables_show_what_was_measured(check):
    tables = {title: (header, rows) for title, header, rows in check_tables(check)}
    assert list(tables) == [
        "rows", "targets", "animal: rows by class", "age: values", "texts", "image files", "images", "copies",
        "numbers", "categories", "graphs",
    ]  # fmt: skip
    for header, rows in tables.values():
        assert rows and all(len(row) == len(header) and all(isinstance(cell, str) for cell in row) for row in rows)
    assert ["rows", "1,234", "2", "1"] in tables["rows"][1]
    assert ["no neighbour in graph links", "0", "0", "1"] in tables["rows"][1]
    header, (animal, age) = tables["targets"]
    assert dict(zip(header, animal, strict=True)) == {
        "target": "animal", "kind": "multiclass", "classes": "2", "fewest": "cat 2", "most": "dog 6",
        "classes a row": "", "constant's": "accuracy", "train": "0.75", "val": "0.5", "test": "0",
        "text names class": "25.0%", "contradicting rows": "3",
    }  # fmt: skip
    assert age[:5] == ["age", "regression", "", "", ""]
    assert tables["animal: rows by class"][1] == [["dog", "6", "1", "1"], ["cat", "2", "1", "0"]]
    assert tables["age: values"][1] == [["train", "1.5", "0.5", "0", "4"]]
    assert tables["texts"][1][1] == [
        "tokens of tiny-bert", "1", "2", "3", "4", "5.5", "600", "12.5% at 128, 1.0% at its own 512",
    ]  # fmt: skip
    assert tables["image files"][1] == [["10", "PNG 9, JPEG 1", "RGB 10", "2"]]
    header, rows = tables["copies"]
    assert header[1:] == ["test in train", "val in train", "test in val", "within train", "within val", "within test"]
    assert rows[0] == ["same text", "1", "1", "2", "1", "2", "3"]
    assert [row[0] for row in rows] == ["same text", "only nearly the same text", "same image file"]
    assert tables["numbers"][1] == [["price", "50.0%", "yes", "", "0.25"]]
    assert tables["categories"][1] == [["shop", "5", "4", "0.0%", "10.0%", "", "0.900 (constant 0.750)", ""]]
    assert tables["graphs"][1] == [["links", "7", "6", "2,000", "50.0%", ""]]


def test_what_a_dataset_does_not_have_has_no_table(check):
    for name in ("text", "image"):
        check[name] = None
    for name in ("copies", "numeric", "categorical", "graphs"):
        check[name] = {}
    assert [title for title, _, _ in check_tables(check)] == ["rows", "targets", "animal: rows by class", "age: values"]


def test_of_many_classes_both_ends_are_shown(check):
    check["targets"]["animal"]["classes"] = {f"c{at}": by_split(at, 0, 0) for at in range(100)}
    (rows,) = (rows for title, _, rows in check_tables(check) if title == "animal: rows by class")
    assert [row[0] for row in rows] == [
        *(f"c{at}" for at in range(99, 87, -1)), "... 82 more", *(f"c{at}" for at in range(5, -1, -1)),
    ]  # fmt: skip


def sample(*, text: str | None = None, label: str = "cat", colour: int | None = None) -> Any:
    image = None if colour is None else np.full((8, 8, 3), (255, colour, 0), np.uint8)
    return SimpleNamespace(id="row", label=label, text=text, image=image)


def drawn(groups: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(samples_picture(groups, "samples"))).convert("RGB"))


def test_problems_are_listed_and_long_lists_cut():
    bad = [{"row": {"id": f"r{i}", "place": f"{i}.png"}, "problem": "no such file"} for i in range(2)]
    found = {"problems": [f"line {i}: no label" for i in range(1021)], "image": {"bad_images": bad}}
    lines = check_problems(found)
    assert lines[:3] == ["", "rows left out or repaired by the reader: 1,021", "  line 0: no label"]
    assert lines[21:23] == ["  line 19: no label", "  and 1,001 more: all are in check.json (--out)"]
    assert lines[23:] == ["", "images missing or unreadable: 2"] + [f"  r{i} ({i}.png): no such file" for i in (0, 1)]
    assert check_problems({"problems": found["problems"][:20], "image": None}) == lines[:1] + [
        "rows left out or repaired by the reader: 20", *lines[2:22]
    ]  # fmt: skip
    assert check_problems({"problems": [], "image": {"bad_images": []}}) == []


def test_the_verdict_marks_what_strict_refuses():
    check = {"dataset": "toys", "num_read": 2000, "rows": by_split(1000, 200, 34), "findings": []}
    assert check_verdict(check) == ["toys, 1,234 of 2,000 rows: nothing to look at"]
    findings = [
        {"text": "3 rows twice", "is_strict": True, "examples": ["r1", "r2"]},
        {"text": "few rows", "is_strict": False, "examples": []},
    ]
    assert check_verdict(check | {"num_read": 1234, "findings": findings}) == [
        "toys, 1,234 rows: 2 to look at", "  ! 3 rows twice", "      r1", "      r2", "  - few rows",
    ]  # fmt: skip


def test_each_sample_is_drawn_in_its_row():
    pixels = drawn({"cat": [sample(colour=10), sample(colour=60)], "dog": [sample(colour=110)]})
    centres = {}
    for colour in (10, 60, 110):
        rows, columns = np.nonzero((pixels == (255, colour, 0)).all(axis=-1))
        assert len(rows) > 5000
        centres[colour] = rows.mean(), columns.mean()
    assert centres[10][0] == centres[60][0] < centres[110][0] and centres[10][1] == centres[110][1] < centres[60][1]


def test_texts_alone_are_drawn_lower_and_any_text_can_be_drawn():
    hard = ["costs $5 or $6_x^2", "雪 \U0001f600", "\t\n", "w" * 1000, "many words " * 100]
    texts = drawn({"cat": [sample(text=text) for text in hard], "a very long name of a class, of_many_words": []})
    images = drawn({"cat": [sample(text=text, colour=3) for text in hard], "dog": [sample(text="no image")]})
    assert len(texts) < len(images)
    assert (texts < 100).any()
