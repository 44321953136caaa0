from collections import defaultdict

import numpy as np
import pyarrow.parquet
import pytest

from trainables.data.formats import DATASETS, dataset_module
from trainables.data.reading.pictures import decode_image

OPENCLIPART = dataset_module("openclipart")


@pytest.fixture(scope="module")
def table():
    return OPENCLIPART.read(None)


def test_sizes_are_those_of_the_summary(table):
    assert len(table.ids) == len(set(table.ids)) == len(table.texts) == len(table.images) == 3290
    assert {name: int((table.split == name).sum()) for name in ("train", "val", "test")} == {
        "train": 2296,
        "val": 331,
        "test": 663,
    }
    label, tags = table.targets["label"], table.targets["tags"]
    assert next(iter(table.targets)) == "label"
    assert label.task.num_outputs == 18 and label.is_labelled.all() and set(label.labels) == set(range(18))
    assert tags.task.num_outputs == 68 and tags.labels.shape == (3290, 68) and tags.is_labelled.sum() == 2937
    assert {name: target.task.kind for name, target in table.targets.items()} == OPENCLIPART.TARGETS


def test_labels_are_those_of_the_file(table):
    (path,) = OPENCLIPART.sources(None)
    rows = pyarrow.parquet.read_table(path, columns=["label", "tags"]).to_pydict()
    label, tags = table.targets["label"], table.targets["tags"]
    assert [label.task.classes[index] for index in label.labels] == rows["label"]
    for hot, names in zip(tags.labels, rows["tags"], strict=True):
        assert {tags.task.classes[index] for index in np.flatnonzero(hot)} == set(names)


def test_no_group_crosses_a_split(table):
    (path,) = OPENCLIPART.sources(None)
    splits = defaultdict(set)
    for group, split in zip(pyarrow.parquet.read_table(path)["group"].to_pylist(), table.split, strict=True):
        splits[group].add(split)
    assert len(splits) > 1000 and all(len(found) == 1 for found in splits.values())


def test_every_class_is_in_every_split(table):
    label, tags = table.targets["label"], table.targets["tags"]
    for split in ("train", "val", "test"):
        assert set(label.labels[table.split == split]) == set(range(18))
    assert (tags.labels[table.split == "train"].sum(axis=0) >= 20).all()


@pytest.mark.slow
def test_every_image_decodes_and_every_row_has_words(table):
    for name, data in zip(table.ids, table.images, strict=True):
        assert decode_image(data, size=64, where=name).shape == (3, 64, 64)
    assert all(any(letter.isalpha() for letter in text) for text in table.texts)


def test_it_reads_no_folder():
    with pytest.raises(ValueError, match="openclipart is embedded and reads no folder, but --data /x was given"):
        OPENCLIPART.read("/x")


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "toy"])
def test_formats_export_the_same_names(name):
    module = dataset_module(name)
    assert isinstance(module.SUMMARY, str) and isinstance(module.IS_EMBEDDED, bool)
    assert set(module.TARGETS.values()) <= {"multiclass", "multilabel", "regression"}
    assert callable(module.sources) and callable(module.read)
