"""Labels, columns of numbers and categories, graphs: counted, and defects planted in them found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_table import (
    CLASSES,
    NUM,
    TRAIN,
    VAL,
    check,
    encoded,
    findings,
    picture,
    picture_path,
    with_file,
    with_text,
)

from trainables.data.reading.sparse import SparseRows
from trainables.data.reading.table import Neighbours
from trainables.data.reading.targets import multiclass, multilabel, regression


# --- labels -----------------------------------------------------------------------------------------
def test_labels_are_counted(clean):
    tags = [["x"] if row % 2 else [] for row in range(NUM)]
    train = ["owls"] * 30 + [CLASSES[row % 3] for row in range(30, TRAIN)]
    animal = [*train, *["bats"] * VAL, *[None] * (NUM - TRAIN - VAL)]
    targets = {
        "animal": multiclass(animal, CLASSES),
        "tags": multilabel(tags, ("x", "y")),
        "age": regression([float(row) for row in range(NUM)]),
    }
    result = check(replace(clean, targets=targets))
    one = result.targets["animal"]
    assert one.labelled == {"train": TRAIN, "val": VAL, "test": 0}
    assert one.classes["owls"] == {"train": 40, "val": 0, "test": 0} and one.classes["bats"]["val"] == VAL
    assert (one.largest.name, one.largest.rows, one.smallest.rows) == ("owls", 40, 10)
    assert one.missing == {"train": [], "val": ["owls", "red fox"]}
    assert one.baseline == {"train": 40 / 60, "val": 0.0, "test": None} and one.baseline_metric == "accuracy"
    many = result.targets["tags"]
    assert many.cardinality["train"] == 0.5 and many.empty == {"train": 30, "val": 9, "test": 9}
    assert many.baseline == pytest.approx({"train": 0.25, "val": 0.25, "test": 0.25})
    age, values = result.targets["age"], np.arange(TRAIN, TRAIN + VAL)
    assert age.moments["val"] == pytest.approx({"mean": values.mean(), "deviation": values.std(), "min": 60, "max": 77})
    assert age.baseline["val"] == pytest.approx(((values - 29.5) ** 2).mean() ** 0.5)
    assert {"target animal: no labels in test", "target animal: 2 of 3 classes have no row in val"} < set(
        findings(result)
    )
    assert "target tags: 1 of 2 classes have no row in train" in findings(result)


def test_sparse_labels_count_as_dense_ones(clean):
    dense = np.zeros((NUM, 5), np.float32)
    dense[np.arange(NUM), np.arange(NUM) % 4] = 0.3
    dense[::3, 2] = 1
    sparse = SparseRows([{int(c): float(row[c]) for c in np.flatnonzero(row)} for row in dense], 5)
    target = multilabel([["a"]] * NUM, tuple("abcde"))
    results = []
    for labels in (dense, sparse):
        table = replace(clean, targets={"t": replace(target, labels=labels)})  # type: ignore[arg-type]
        results.append(check(table))
    assert results[0] == results[1]
    assert results[0].targets["t"].classes["c"]["train"] == (dense[:TRAIN, 2] > 0).sum()


def test_words_of_the_class_in_the_text(clean):
    table = clean
    texts = {0: "an Owl!", 3: "owlish", 1: "two bats, one bat", 2: "the fox is RED", 5: "a fox", 4: "owls"}
    for row, text in texts.items():
        table = with_text(table, row, text)
    one = check(table).targets["animal"]
    assert one.named == 3 and one.named_share == 3 / NUM  # not owlish, not half of 'red fox', not another's class
    for row in (6, 9):
        table = with_text(table, row, f"owls {row} of them")
    result = check(table)
    assert findings(result) == ["target animal: the text of 5.2% of rows names their class"]
    assert not result.findings[0].is_strict


def test_the_same_inputs_with_different_labels(clean):
    table = with_text(clean, 10, clean.texts[3].upper())
    table = replace(table, categorical={"place": ["here"] * NUM})
    with_file(table, 10, picture_path(table, 3).read_bytes())
    both = [3, 10]
    table.numeric[10] = table.numeric[3]
    table.graph.nodes[10] = table.graph.nodes[3]
    result = check(table, target="animal")
    one = result.targets["animal"]
    assert (one.num_contradictions, one.contradicting_rows, one.contradicting_in_all) == (1, 2, 2)
    (group,) = one.contradictions
    assert [row.row for row in group.rows] == both and group.labels == ["owls", "bats"]
    (finding,) = result.findings
    assert finding.text.startswith("target animal: 2 rows with the same text and image have different labels")
    assert finding.is_strict and finding.examples == ["id-3 (pictures/3.png): owls / id-10 (pictures/10.png): bats"]

    table.numeric[10] += 1  # something else tells them apart
    (finding,) = check(table, target="animal").findings
    assert "0 of them even with the same numbers" in finding.text and not finding.is_strict
    with_file(table, 10, encoded(picture(10)))
    assert check(table, target="animal").targets["animal"].num_contradictions == 0


def test_the_same_inputs_with_the_same_label_are_fine(clean):
    table = with_text(clean, 9, clean.texts[3])
    with_file(table, 9, encoded(picture(3)))
    assert check(table, target="animal").targets["animal"].num_contradictions == 0


# --- columns ----------------------------------------------------------------------------------------
def test_numbers(clean):
    label = np.arange(NUM) % 3
    age = clean.targets["age"].labels
    noise = np.random.default_rng(3).normal(size=NUM)
    columns = {
        "gaps": np.where(np.arange(NUM) < 24, np.nan, noise),
        "constant": np.where(np.arange(NUM) < 5, np.nan, 3),
        "nothing": np.full(NUM, np.nan),
        "code": 100.0 * label - 7,
        "years": -1e9 * age + 5,
    }
    table = replace(clean, numeric=np.stack(list(columns.values()), 1).astype(np.float32), numeric_names=tuple(columns))
    result = check(table)
    assert result.numeric["gaps"].missing_share == 0.25 and not result.numeric["gaps"].is_constant
    used = ~np.isnan(columns["gaps"])
    expected = abs(np.corrcoef(columns["gaps"][used].astype(np.float32), age[used])[0, 1])
    assert result.numeric["gaps"].correlation["age"] == pytest.approx(expected)
    assert result.numeric["constant"].correlation == {"animal": None, "tags": None, "age": None}
    assert findings(result) == [
        "numeric column constant is constant",
        "numeric column nothing has no values",
        "numeric column code gives target animal away: correlation 1.0000",
        "numeric column years gives target age away: correlation 1.0000",
    ]


def test_categories(clean):
    label = np.arange(NUM) % 3
    table = replace(
        clean,
        categorical={
            "told": [None if row == 60 else f"is {value}" for row, value in enumerate(label)],
            "user": [f"user {row % 4 if row < TRAIN else row}" for row in range(NUM)],
        },
    )
    result = check(table)
    told, user = result.categorical["told"], result.categorical["user"]
    assert told.values == told.train_values == 3 and told.missing_share == 1 / NUM
    assert told.unseen_share == {"val": 0.0, "test": 0.0}
    alone, held = told.alone["animal"], NUM - TRAIN
    assert alone.metric == "accuracy" and alone.baseline == 12 / held
    assert alone.score == pytest.approx(1)  # row 60 has no value, and gets the first class, which it is
    assert user.values == 4 + held and user.train_values == 4 and user.unseen_share == {"val": 1.0, "test": 1.0}
    assert user.alone["animal"].gain == 0
    assert findings(result) == [
        "categorical column told alone predicts target animal: accuracy 1.000 against 0.333; is it known beforehand?",
        "categorical column user: 100.0% of val rows have a value that no training row has",
        "categorical column user: 100.0% of test rows have a value that no training row has",
    ]


def test_a_category_explains_a_number(clean):
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 4, NUM)
    age = (kind * 10 + rng.normal(size=NUM)).astype(np.float32)
    table = replace(clean, targets={"age": regression(age)}, categorical={"kind": [str(value) for value in kind]})
    means = np.array([age[:TRAIN][kind[:TRAIN] == value].mean() for value in range(4)])
    left, total = age[TRAIN:] - means[kind[TRAIN:]], age[TRAIN:] - age[:TRAIN].mean()
    alone = check(table).categorical["kind"].alone["age"]
    assert alone.score == pytest.approx(1 - (left**2).sum() / (total**2).sum(), rel=1e-4) and alone.score > 0.9


def test_graph(clean):
    degrees = np.arange(NUM) % 3
    nodes = np.where(np.repeat(np.arange(NUM), degrees) < TRAIN, 1, 4)
    offsets = np.concatenate([[0], np.cumsum(degrees)])
    given = {"links": Neighbours(nodes=nodes, offsets=offsets, num_nodes=6)}
    graph = check(replace(clean, graphs=given)).graphs["links"]
    assert (graph.nodes, graph.linked_nodes, graph.edges) == (6, 2, degrees.sum())
    assert graph.isolated == {"train": 20, "val": 6, "test": 6} and graph.unseen_share == {"val": 1.0, "test": 1.0}
