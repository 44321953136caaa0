import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from trainables.batch import Batch
from trainables.data.open import open_data
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.reading.table import Neighbours, Table
from trainables.data.reading.tabular import Tabular, load_tabular, tabular_of
from trainables.encoders.tabular import CategoricalEncoder, GraphEncoder, NumericEncoder
from trainables.model import load_tabular_encoder


def table(**given) -> Table:
    split = np.array(["train"] * 4 + ["val", "test"])
    return Table(ids=[str(row) for row in range(6)], split=split, targets={}, **given)


def batch(**given) -> Batch:
    return Batch(**given, labels=torch.zeros(1), ids=[])


def test_numbers_are_z_scores_of_the_training_rows():
    values = np.array([[1, 5, np.nan], [2, 5, 3], [3, 5, 4], [6, 5, 5], [100, 6, np.nan], [-9, 5, 1]], np.float32)
    tabular = tabular_of(table(numeric=values))
    encoder = load_tabular_encoder("numeric", tabular, dataset="x")
    out = encoder(batch(numeric=torch.from_numpy(values))).numpy()
    assert encoder.width == 4 and out.shape == (6, 4)
    scaler = StandardScaler().fit(values[:4])  # skips missing values
    expected = np.nan_to_num(scaler.transform(values)).clip(-10, 10)
    np.testing.assert_allclose(out[:, [0, 2]], expected[:, [0, 2]], rtol=1e-5, atol=1e-6)
    assert out[:, 1].tolist() == [0, 0, 0, 0, 1, 0]  # constant in training: only the mean is taken off
    assert out[:, 3].tolist() == [1, 0, 0, 0, 1, 0]  # the one column with a gap in training says where


def test_times_and_sizes_keep_their_differences():
    """Seconds since 1970, 30 s apart, and counts above 2^24: float32 would make most of them equal."""
    values = np.stack([1.7e9 + 30 * np.arange(6), 2.0**24 + np.arange(6)], axis=1)
    encoder = load_tabular_encoder("numeric", tabular_of(table(numeric=values)), dataset="x")
    out = encoder(batch(numeric=torch.from_numpy(values))).numpy()
    assert out.dtype == np.float32
    expected = (values - values[:4].mean(axis=0)) / values[:4].std(axis=0)
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)


def test_categories_are_coded_by_the_training_rows():
    columns = {"a": ["x", "y", "y", None, "z", "x"], "b": ["u", "u", "u", "u", "u", None]}
    tabular = tabular_of(table(categorical=columns))
    assert tabular.sizes == (3, 2)  # with code 0, for missing and never seen
    assert tabular.codes is not None and tabular.codes.T.tolist() == [[2, 1, 1, 0, 0, 2], [1, 1, 1, 1, 1, 0]]
    encoder = CategoricalEncoder(tabular.sizes)
    out = encoder(batch(categories=torch.from_numpy(tabular.codes)))
    first, second = encoder.tables
    assert out.shape == (6, encoder.width) and out.grad_fn is not None
    with torch.no_grad():
        assert out[0].equal(torch.cat([first.weight[2], second.weight[1]]))  # pyright: ignore
        assert not out[3, : first.embedding_dim].any() and not out[5, first.embedding_dim :].any()  # pyright: ignore
    assert CategoricalEncoder((100_000,)).width == 64 and CategoricalEncoder((3,)).width == 3


def test_a_graph_feature_is_the_mean_of_the_neighbours():
    encoder = GraphEncoder(4)
    nodes = torch.tensor([[1, 4, 0], [2, 0, 0], [0, 0, 0]])
    with torch.no_grad():
        out = encoder(batch(neighbours=nodes))
        weight = encoder.nodes.weight
        torch.testing.assert_close(out[0], (weight[1] + weight[4]) / 2)
        assert out[1].equal(weight[2]) and not out[2].any()


def test_the_loader_serves_what_the_family_reads(toy):
    config = toy("fusion", model={"modalities": "graph+numeric"})
    data = open_data(config)
    rows = np.array([0, 1, 2, 5])
    out, source = data.batch(rows, data.clean), load_table(DatasetRef("toy"))
    assert source.numeric is not None and isinstance(source.graph, Neighbours)
    assert out.numeric is not None and np.array_equal(out.numeric.numpy(), source.numeric[rows], equal_nan=True)
    assert out.categories is None and out.input_ids is None and out.pixel_values is None and out.text_features is None
    offsets, nodes = source.graph.offsets, source.graph.nodes
    wanted = [[node + 1 for node in nodes[offsets[row] : offsets[row + 1]]] for row in rows]
    assert out.neighbours is not None
    assert [[node for node in row if node] for row in out.neighbours.tolist()] == wanted


def test_columns_that_are_not_there_are_named(toy):
    with pytest.raises(ValueError, match="'graph' was asked for, but dataset x has no graph"):
        load_tabular_encoder("graph", Tabular(), dataset="x")
    assert load_tabular(DatasetRef("toy")).sizes == (4, 6)  # new users of val and test have no code
    assert load_tabular(DatasetRef("toy"), "classes").graph.num_nodes == 3
    assert load_tabular(DatasetRef("toy")).graph.num_nodes == load_tabular(DatasetRef("toy"), "links").graph.num_nodes
    with pytest.raises(ValueError, match="graph: dataset toy has no 'class', did you mean 'classes'. Known: links, cl"):
        load_tabular(DatasetRef("toy"), "class")
    numeric = NumericEncoder(np.zeros(2), np.ones(2), np.zeros(2, bool))
    assert not list(numeric.parameters())
