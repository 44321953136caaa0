from collections import Counter

import numpy as np
import pyarrow.parquet
import pytest
from disk import classes

from trainables.data.formats import debpkg


@pytest.fixture(scope="module")
def files():
    return [pyarrow.parquet.read_table(path).to_pydict() for path in debpkg.sources(None)]


def groups(table):
    """The source package of each row."""
    return pyarrow.parquet.read_table(debpkg.sources(None)[0])["group"].to_pylist()


def test_sizes_are_those_of_the_summary(files):
    table = debpkg.read(None)
    assert len(table.ids) == 7889 and table.images is None
    assert [target.task.num_outputs for target in table.targets.values()] == [23, 52]
    assert Counter(label or "education" for label in classes(table)) == Counter(files[0]["label"])
    assert [label or set() for label in classes(table, "debtags")] == [set(tags) for tags in files[0]["tags"]]


def test_numbers_and_categories(files):
    table = debpkg.read(None)
    for at, name in enumerate(table.numeric_names):
        assert np.array_equal(table.numeric[:, at], np.array(files[0][name], np.float64))
    assert set(table.categorical) == {"priority", "arch"}  # the team names the section


def test_neighbours_are_the_dependencies(files):
    table, (_, edges) = debpkg.read(None), files
    assert table.graph.num_nodes == len(set(edges["dst"])) == 8202 and len(table.graph.nodes) == 48193
    names = sorted(set(edges["dst"]))
    for row in (0, 17, 7888):
        found = table.graph.nodes[table.graph.offsets[row] : table.graph.offsets[row + 1]]
        expected = {
            target for source, target in zip(edges["src"], edges["dst"], strict=True) if source == table.ids[row]
        }
        assert {names[node] for node in found} == expected
