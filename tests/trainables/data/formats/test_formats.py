"""What every dataset must do. The tests of a dataset (formats/test_NAME.py) bring ``write(folder)``, a tiny copy in
its true format, unless it is embedded, and perhaps ``groups(table)``: what must not be in two splits, by row."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from disk import with_those_left_out

from trainables.data.formats import DATASETS, dataset_module
from trainables.data.reading.table import SPLITS, ImageFiles, Table

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
NAMES = sorted(name for name in DATASETS if name != "toy")
EMBEDDED = [name for name in NAMES if dataset_module(name).IS_EMBEDDED]
ON_DISK = [name for name in NAMES if name not in EMBEDDED]


def module_of(name: str) -> ModuleType | None:
    path = HERE / f"test_{name}.py"
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location(f"writes_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys(EMBEDDED)
    for name in ON_DISK:
        folder = tmp_path_factory.mktemp(name)
        module = module_of(name)
        assert module is not None, f"tests/trainables/formats/test_{name}.py is missing"
        module.write(folder)
        found[name] = str(folder)
    return found


@pytest.fixture(scope="module")
def tables(folders) -> dict[str, Table]:
    return {name: dataset_module(name).read(folder) for name, folder in folders.items()}


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture
def table(tables, name) -> Table:
    return tables[name]


def test_rows(table):
    num = len(table.ids)
    assert num == len(set(table.ids)) > 0 and all(isinstance(id, str) and id for id in table.ids)
    assert table.split.shape == (num,) and set(table.split.tolist()) == set(SPLITS)
    assert table.texts is not None or table.images is not None
    assert table.problems == []


def test_targets(table, name):
    num, expected = len(table.ids), dataset_module(name).TARGETS
    kinds = {target: found.task.kind for target, found in table.targets.items()}
    assert list(kinds.items()) == list(expected.items()) or name == "table"
    for found in table.targets.values():
        labels, is_labelled = found.labels, found.is_labelled
        assert is_labelled.shape == (num,) and is_labelled.dtype == bool
        known = labels[is_labelled]
        if found.task.kind == "multiclass":
            assert labels.shape == (num,) and labels.dtype == np.int64
            assert ((known >= 0) & (known < len(found.task.classes))).all()
        elif found.task.kind == "multilabel":
            assert labels.shape == (num, len(found.task.classes)) and labels.dtype == np.float32
            assert ((known >= 0) & (known <= 1)).all() and (known.sum(axis=1) > 0).any()
        else:
            assert labels.shape == (num,) and labels.dtype == np.float64 and np.isfinite(known).all()
    first = next(iter(table.targets.values()))
    for split in ("train", "val"):
        assert first.is_labelled[table.split == split].any()


def test_texts(table):
    if table.texts is not None:
        assert len(table.texts) == len(table.ids) and all(isinstance(text, str) for text in table.texts)
        assert any(table.texts) and all(text.encode() is not None for text in table.texts)


def test_images(table):
    if table.images is not None:
        assert len(table.images) == len(table.ids)
        some = [0, len(table.ids) // 2, len(table.ids) - 1]
        assert all(table.images[row][:4] == b"\x89PNG" for row in some)  # of every tiny copy
        assert list(table.images[0:2]) == [table.images[0], table.images[1]]
        if isinstance(table.images, ImageFiles):
            assert table.images.stamp == table.images.stamp


def test_numbers_categories_and_neighbours(table):
    num = len(table.ids)
    if table.numeric is not None:
        assert table.numeric.shape == (num, len(table.numeric_names)) and table.numeric.dtype == np.float64
        assert not np.isinf(table.numeric).any() and not np.isnan(table.numeric).all(axis=0).any()
        assert len(set(table.numeric_names)) == len(table.numeric_names)
    else:
        assert table.numeric_names == ()
    for values in table.categorical.values():
        assert len(values) == num and all(value is None or (isinstance(value, str) and value) for value in values)
        assert any(value is not None for value in values)
    for graph in table.graphs.values():
        nodes, offsets = graph.nodes, graph.offsets
        assert nodes.dtype == offsets.dtype == np.int64 and offsets.shape == (num + 1,)
        assert offsets[0] == 0 and offsets[-1] == len(nodes) > 0 and (np.diff(offsets) >= 0).all()
        assert nodes.min() >= 0 and nodes.max() < graph.num_nodes


def test_no_feature_is_a_label(table):
    assert not set(table.targets) & {*table.numeric_names, *table.categorical}


def test_no_group_is_in_two_splits(table, name):
    module = module_of(name)
    if module is None or not hasattr(module, "groups"):
        pytest.skip("no groups")
    groups = module.groups(table)
    assert 1 < len(set(zip(groups, table.split.tolist(), strict=True))) == len(set(groups))


@pytest.mark.slow
def test_reading_twice_gives_the_same(folders, table, name):
    again = dataset_module(name).read(folders[name])
    for item in fields(Table):
        if item.name not in ("images", "targets", "graphs"):
            np.testing.assert_equal(getattr(again, item.name), getattr(table, item.name))
    if table.images is not None:
        assert list(again.images[0:50]) == list(table.images[0:50])
    for target, found in table.targets.items():
        assert again.targets[target].task == found.task
        np.testing.assert_array_equal(again.targets[target].labels[:], found.labels[:])
        np.testing.assert_array_equal(again.targets[target].is_labelled, found.is_labelled)
    assert list(again.graphs) == list(table.graphs)
    for key, graph in table.graphs.items():
        np.testing.assert_array_equal(again.graphs[key].nodes, graph.nodes)


def test_sources_exist_and_do_not_change(folders, name):
    module = dataset_module(name)
    sources = module.sources(folders[name])
    assert sources and all(path.is_file() for path in sources) and len(set(sources)) == len(sources)
    assert module.sources(folders[name]) == sources


@pytest.mark.parametrize("name", ON_DISK)
def test_a_folder_is_needed(name, tmp_path):
    module = dataset_module(name)
    for function in (module.sources, module.read):
        with pytest.raises(ValueError, match=f"^dataset {name} needs --data DIR$"):
            function(None)
        with pytest.raises(
            ValueError, match=f"^dataset {name}: --data {re.escape(str(tmp_path))}/gone: no such folder$"
        ):
            function(f"{tmp_path}/gone")
        with pytest.raises(ValueError, match=rf"^dataset {name}: {re.escape(str(tmp_path))} has no .*Known layouts: "):
            function(str(tmp_path))


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_ones_take_no_folder(name, tmp_path):
    module = dataset_module(name)
    for function in (module.sources, module.read):
        with pytest.raises(ValueError, match=f"^dataset {name} is embedded and reads no folder, but --data "):
            function(str(tmp_path))


def test_embedded_files_are_those_of_the_notice():
    folder = Path(str(dataset_module("openclipart").__file__)).parents[1] / "embedded"
    notice = (folder / "NOTICE").read_text()
    sums = {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.parquet")}
    assert set(re.findall(r"[0-9a-f]{64}", notice)) == sums and len(sums) == 4


def test_every_dataset_is_documented():
    text = (ROOT / "docs" / "datasets.md").read_text()
    assert sorted(re.findall(r"^### `(\w+)`", text, re.MULTILINE)) == NAMES


def test_nothing_is_unpickled():
    """Neither pickle nor what calls it; np.load says allow_pickle=False by itself.

    One module looks a pickle through and builds nothing that it names (test_plainpickle): no other unpickler is there.
    """
    for path in sorted((ROOT / "trainables" / "data").rglob("*.py")):
        text = path.read_text()
        if path.name == "plainpickle.py":
            assert set(re.findall(r"pickle\.(\w*[lL]oad\w*|Unpickler)\b", text)) == {"Unpickler"}
            assert text.count("pickle.Unpickler") == text.count("(pickle.Unpickler):\n    def find_class(") == 1
        else:
            assert not re.search(r"^\s*(import|from) (pickle|joblib|dill|cloudpickle)", text, re.MULTILINE), path.name
        assert "allow_pickle=True" not in text and "read_pickle" not in text, path.name


@pytest.mark.parametrize("name", [name for name in ON_DISK if name not in ("movielens", "movielens_movies")])
def test_samples_without_their_picture_keep_their_place(name, tmp_path):
    module = module_of(name)
    assert module is not None
    module.write(tmp_path)
    whole = dataset_module(name).read(str(tmp_path))
    assert whole.left_out == []
    if not isinstance(whole.images, ImageFiles):
        pytest.skip(f"pictures of {name} are no files of their own")
    gone = whole.images.names[len(whole.ids) // 2]
    (tmp_path / gone).unlink()
    table = dataset_module(name).read(str(tmp_path))
    lost = [id for id, image in zip(whole.ids, whole.images.names, strict=True) if image == gone]
    assert lost and set(table.ids) == {*whole.ids} - {*lost}
    assert with_those_left_out(table) == whole.ids
    assert all(Path(gone).stem in one.why for one in table.left_out)
    kept = dict(zip(whole.ids, whole.split, strict=True))
    assert all(one.split in ("", kept[one.id]) for one in table.left_out)
