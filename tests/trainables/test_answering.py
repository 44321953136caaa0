"""A trained model over tables of new rows."""

import numpy as np
import pyarrow.parquet
import pytest
import torch

from trainables.answering import answers_of, feature_widths
from trainables.data.newtable import NewTable
from trainables.data.reading.dataset import DatasetRef
from trainables.evaluate import PREDICTIONS
from trainables.loop import train
from trainables.trained import load_trained

TEXT_AND_GRAPH = {"modalities": "text+graph"}


@pytest.fixture(scope="module")
def graph(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graph")
    train(toy("fusion", epochs=1, graph="classes", model=TEXT_AND_GRAPH), folder=folder)
    return load_trained(folder)


@pytest.mark.slow
def test_rows_of_its_own_graph_in_parts_of_any_size(graph):
    rows = NewTable(graph.facts, graph.modalities, DatasetRef("toy"), "val")
    rows.check()
    assert (graph.facts.graph, graph.facts.num_nodes) == ("classes", 3)  # not the first of the dataset
    written = pyarrow.parquet.read_table(graph.folder / PREDICTIONS)
    for size in (4, 100):
        parts = list(answers_of(graph, rows.tables(size)))
        assert [id for part in parts for id in part.ids] == written["id"].to_pylist()
        logits = np.concatenate([part.logits for part in parts])
        np.testing.assert_allclose(logits, np.array(written["logits"].to_pylist()), rtol=1e-4, atol=1e-4)
        assert [{*part.features} for part in parts] == [{*feature_widths(graph)}] * len(parts)
    assert rows.total == 21 and rows.notes == []
    whole = NewTable(graph.facts, graph.modalities, DatasetRef("toy"))
    assert whole.total == 68 and whole.notes[0].startswith("45 of 68 rows are of the training split")


@pytest.mark.slow
def test_a_graph_of_other_data_is_refused(graph):
    rows = NewTable(graph.facts, graph.modalities, DatasetRef("openclipart"))
    with pytest.raises(ValueError, match="the model reads a graph, whose nodes are those of toy"):
        rows.check()
    with pytest.raises(ValueError, match="dataset debpkg has no image, which the model reads"):
        NewTable(graph.facts, ("image",), DatasetRef("debpkg")).check()


@pytest.mark.slow
def test_an_output_that_is_no_number_is_an_error_of_its_row(graph, monkeypatch):
    rows = NewTable(graph.facts, graph.modalities, DatasetRef("toy"), "val")
    forward = type(graph).forward

    def broken(self, batch):
        out = forward(self, batch)
        is_bad = torch.tensor([id == "row-47" for id in batch.ids])
        out.logits = out.logits.masked_fill(is_bad[:, None], torch.nan)
        return out

    monkeypatch.setattr(type(graph), "forward", broken)
    (part,) = answers_of(graph, rows.tables(100))
    assert part.errors[2] == "the model's output is infinite or no number" and part.errors.count(None) == 20
    assert part.logits.shape == (20, 3) and part.rows.tolist() == [row for row in range(21) if row != 2]
