"""A trained model from its folder alone gives what it gave while it was trained."""

import json
import shutil
from dataclasses import replace

import cases
import numpy as np
import pyarrow.parquet
import pytest
import torch

from trainables.answering import answers_of
from trainables.answers import left_out
from trainables.data.formats import DATASETS
from trainables.data.newtable import NewTable
from trainables.data.open import open_data
from trainables.data.reading.dataset import DatasetRef, dataset_texts, load_table
from trainables.data.reading.pictures import decode_image
from trainables.data.reading.tabular import load_tabular
from trainables.evaluate import PREDICTIONS
from trainables.families import FAMILIES, family_module
from trainables.loop import train
from trainables.modelfolder import FACTS, read_facts
from trainables.trained import Inputs, load_trained

QUICK = ("fusion", "text")


def families():
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES]


def trained_on(toy, folder, family, **given):
    config = toy(family, epochs=1, **given)
    train(config, folder=folder)
    return config, pyarrow.parquet.read_table(folder / PREDICTIONS)


def inputs_of(rows, trained):
    """Rows of the toy dataset as new data."""
    table = load_table(DatasetRef("toy"))
    graph = table.graph
    size, fit = trained.config.image_size, trained.config.image_fit
    return Inputs(
        ids=[table.ids[row] for row in rows],
        texts=[table.texts[row] for row in rows],
        pixels=np.stack([decode_image(table.images[row], size=size, fit=fit, where="toy") for row in rows]),
        numeric=table.numeric[rows],
        categorical={name: [values[row] for row in rows] for name, values in table.categorical.items()},
        neighbours=[graph.nodes[graph.offsets[row] : graph.offsets[row + 1]] for row in rows],
    )


def logits_of(trained, rows, *, size=8):
    parts = [trained.batch(inputs_of(rows[at : at + size], trained)) for at in range(0, len(rows), size)]
    return np.concatenate([trained.forward(part).logits.float().cpu().numpy() for part in parts])


@pytest.mark.slow
@pytest.mark.parametrize("family", families())
def test_rows_without_their_dataset_give_the_logits_that_were_written(toy, tmp_path, monkeypatch, family):
    config, written = trained_on(toy, tmp_path / "here", family, model=cases.of(family).VARIANTS[0])
    moved = tmp_path / "there"
    shutil.move(tmp_path / "here", moved)
    rows = np.flatnonzero(load_table(DatasetRef("toy")).split == "val")
    trained = load_trained(moved)
    inputs = [inputs_of(rows[at : at + 8], trained) for at in range(0, len(rows), 8)]
    monkeypatch.delitem(DATASETS, "toy")
    load_table.cache_clear()
    load_tabular.cache_clear()
    logits = np.concatenate([trained.forward(trained.batch(part)).logits.float().numpy() for part in inputs])
    assert [id for part in inputs for id in part.ids] == written["id"].to_pylist()
    np.testing.assert_allclose(logits, np.array(written["logits"].to_pylist()), rtol=2e-3, atol=2e-3)
    assert trained.facts.task.classes == ("red", "green", "blue")
    assert trained.report["epoch"] == 1
    assert config == trained.config


def test_cached_features_give_the_same_digits(toy, tmp_path):
    config, written = trained_on(toy, tmp_path, "fusion", model={"lock_text": True, "lock_image": True})
    trained, data = load_trained(tmp_path), open_data(config)
    assert {modality: used.is_cached for modality, used in trained.facts.encoders.items()} == {
        "text": True, "image": True,
    }  # fmt: skip
    logits = trained.forward(data.batch(data.rows["val"], data.clean)).logits.numpy()
    np.testing.assert_array_equal(logits, np.array(written["logits"].to_pylist(), np.float32))


@pytest.mark.slow
def test_the_order_of_pictures_in_memory_does_not_matter(toy, tmp_path):
    trained_on(toy, tmp_path, "mmbv")
    trained = load_trained(tmp_path)
    inputs = inputs_of(list(range(46, 57)), trained)
    assert inputs.pixels is not None
    channels_last = np.ascontiguousarray(inputs.pixels.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    orders = [np.ascontiguousarray(inputs.pixels), channels_last]
    assert orders[0].strides != orders[1].strides
    logits = [trained.forward(trained.batch(replace(inputs, pixels=pixels))).logits.numpy() for pixels in orders]
    np.testing.assert_array_equal(*logits)


@pytest.mark.slow
def test_numbers_categories_and_graph_come_from_the_folder(toy, tmp_path):
    model = {"modalities": "text+numeric+categorical+graph"}
    _, written = trained_on(toy, tmp_path, "fusion", model=model)
    trained = load_trained(tmp_path)
    rows = np.flatnonzero(load_table(DatasetRef("toy")).split == "val")
    np.testing.assert_allclose(logits_of(trained, rows), np.array(written["logits"].to_pylist()), rtol=1e-4, atol=1e-4)
    table = load_table(DatasetRef("toy"))
    facts = trained.facts
    assert [scale.name for scale in facts.numeric] == ["told", "noise", "constant"]
    told = table.numeric[:45, 0].astype(float)
    assert facts.numeric[0].mean == pytest.approx(np.nanmean(told))
    assert facts.numeric[0].std == pytest.approx(np.nanstd(told))
    assert sorted(facts.categorical["told"]) == ["class 0", "class 1", "class 2"]
    assert (facts.graph, facts.num_nodes) == ("links", 9)


@pytest.mark.slow
@pytest.mark.parametrize("fields", ["", "noise+told"])
def test_what_stands_in_front_of_the_text_comes_from_the_columns_of_a_row(toy, tmp_path, fields):
    """'told' is a number and a category of the toy dataset: both are meant."""
    model = {"metadata": "text", "metadata_fields": fields}
    config, written = trained_on(toy, tmp_path, "text", model=model, max_text_len=64)
    trained, dataset = load_trained(tmp_path), DatasetRef("toy")
    columns = trained.facts.columns
    assert columns.text_numbers == (("told", "noise") if fields else ("told", "noise", "constant"))
    assert columns.text_categories == (("told",) if fields else ("told", "user"))
    assert trained.modalities == ("text",) and not trained.facts.numeric and not trained.facts.categorical
    rows = np.flatnonzero(load_table(dataset).split == "val")
    found = NewTable(trained.facts, trained.modalities, dataset)
    found.check()
    logits = np.concatenate([part.logits for part in answers_of(trained, found.tables_of(rows, 8))])
    np.testing.assert_allclose(logits, np.array(written["logits"].to_pylist()), rtol=1e-3, atol=1e-3)
    texts, table = dataset_texts(DatasetRef.of(config)), load_table(dataset)
    row, label = int(rows[0]), table.targets["class"].labels[rows[0]]
    told = f"told: {100 + 10 * label}. noise: {table.numeric[row, 1]:g}"
    assert texts[row] == (
        f"{told}. told: class {label}. {table.texts[row]}"
        if fields
        else f"{told}. constant: 7. told: class {label}. user: user {row % 5}. {table.texts[row]}"
    )
    gap = int(np.flatnonzero(np.isnan(table.numeric[:, 0]))[0])
    assert texts[gap].startswith("noise: ")  # a value that is missing is left out


def test_a_column_that_is_not_there_is_named(toy, tmp_path):
    config = toy("text", model={"metadata": "text", "metadata_fields": "tolt"})
    with pytest.raises(ValueError, match="toy has no column 'tolt', did you mean 'told'"):
        train(config, folder=tmp_path)


def test_metadata_need_some(toy, tmp_path, monkeypatch):
    """A dataset without categories gives its numbers alone; one without either is refused."""
    model, whole = {"metadata": "mlp", "modalities": "text"}, load_tabular(DatasetRef("toy"))
    monkeypatch.setattr("trainables.data.open.load_tabular", lambda dataset, graph: whole.only(["numeric"]))
    trained_on(toy, tmp_path / "numbers", "fusion", model=model, modality_dropout=0.3)
    trained = load_trained(tmp_path / "numbers")
    assert trained.modalities == ("text", "numeric")
    assert logits_of(trained, np.arange(3)).shape == (3, 3)
    monkeypatch.setattr("trainables.data.open.load_tabular", lambda dataset, graph: whole.only([]))
    with pytest.raises(ValueError, match="model.metadata: dataset toy has no numbers and no categories"):
        train(toy("fusion", model=model), folder=tmp_path / "none")


@pytest.mark.slow
def test_a_family_that_computes_losses_answers_rows_without_labels(toy, tmp_path):
    for at, given in enumerate(({}, {"target": "many", "objective": "val_ap_micro"})):
        _, written = trained_on(toy, tmp_path / str(at), "flava", model={"unimodal_heads": True}, **given)
        rows = np.flatnonzero(load_table(DatasetRef("toy")).split == "val")
        logits = logits_of(load_trained(tmp_path / str(at)), rows)
        np.testing.assert_allclose(logits, np.array(written["logits"].to_pylist()), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_regression_answers_in_its_own_unit(toy, tmp_path):
    _, written = trained_on(toy, tmp_path, "text", target="number", objective="val_rmse")
    trained = load_trained(tmp_path)
    rows = np.flatnonzero(load_table(DatasetRef("toy")).split == "val")
    answers = trained.scores(logits_of(trained, rows))
    np.testing.assert_allclose(answers, np.array(written["logits"].to_pylist())[:, 0], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in FAMILIES if len(family_module(name).MODALITIES) > 1])
def test_blank_input_is_what_an_empty_text_and_a_grey_picture_give(toy, tmp_path, family):
    trained_on(toy, tmp_path, family, model=cases.of(family).VARIANTS[0])
    trained = load_trained(tmp_path)
    inputs = inputs_of(np.arange(46, 54), trained)
    batch = trained.batch(inputs)
    grey, empty = np.full_like(inputs.pixels, 128), [""] * 8
    by_hand = {
        "image": trained.batch(Inputs(ids=inputs.ids, texts=inputs.texts, pixels=grey)),
        "text": trained.batch(Inputs(ids=inputs.ids, texts=empty, pixels=inputs.pixels)),
    }
    for modality in set(trained.modalities) & {"text", "image"}:
        got = trained.forward(trained.blank(trained.with_features(batch), modality)).logits
        want = trained.forward(by_hand[modality]).logits
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=2e-3, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in FAMILIES if len(family_module(name).MODALITIES) > 1])
def test_a_modality_is_left_out_as_if_the_batch_never_had_it(toy, tmp_path, family):
    config, _ = trained_on(toy, tmp_path, family, model=cases.of(family).VARIANTS[0])
    trained, data = load_trained(tmp_path), open_data(config)
    batch = data.batch(data.rows["val"][:8], data.clean)
    can = family_module(family).droppable(config.model)
    for modality in trained.modalities:
        if modality in can:
            got = trained.changed(batch, left_out(modality)).logits
            assert torch.equal(got, trained.forward(batch.without(modality)).logits)
        else:
            with pytest.raises(ValueError, match=f"{modality} is missing"):
                trained.changed(batch, left_out(modality))


@pytest.mark.slow
def test_what_is_no_model_is_said(toy, tmp_path):
    with pytest.raises(ValueError, match=r"holds no trained model \(model.json is missing\)"):
        load_trained(tmp_path)
    trained_on(toy, tmp_path, "text")
    whole = (tmp_path / FACTS).read_text()
    for text, said in (
        ("", "does not describe a trained model"),
        ("[]", "does not describe a trained model"),
        ("{}", "no 'format'"),
        (json.dumps({**json.loads(whole), "format": 99}), "format 99 is of a newer mmtune"),
        (whole.replace('"multiclass"', '"many"'), "does not describe a trained model"),
    ):
        (tmp_path / FACTS).write_text(text)
        with pytest.raises(ValueError, match=said):
            read_facts(tmp_path)
    (tmp_path / FACTS).write_text(whole)
    (tmp_path / "best.safetensors").unlink()
    with pytest.raises(ValueError, match="best.safetensors"):
        load_trained(tmp_path)
