"""A dataset is what is in its files, not where they lie nor when they were written."""

from __future__ import annotations

import os
import shutil

import pytest
from PIL import Image

from trainables.data.cache.identity import dataset_fingerprint, dataset_key, differences
from trainables.data.cache.store import entries
from trainables.data.reading.dataset import DatasetRef, load_table

YAML = "files: rows.csv\nimage: picture\nlabels: {label: {column: label, kind: multiclass}}\n"


def fresh(folder):
    for function in (load_table, dataset_key):
        function.cache_clear()  # as in another process
    return DatasetRef("table", str(folder))


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "table.yaml").write_text(YAML)
    names = [f"{row}.png" for row in range(12)]
    for row, name in enumerate(names):
        Image.new("RGB", (8, 8), (20 * row, 0, 0)).save(folder / name)
    rows = [f"{name},{'ab'[row % 2]}" for row, name in enumerate(names)]
    (folder / "rows.csv").write_text("\n".join(["picture,label", *rows]) + "\n")
    return folder


def test_a_copy_with_other_times_is_the_same(cache, data, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(data, copy, copy_function=shutil.copyfile)
    for path in copy.iterdir():
        os.utime(path, (1, 1))
    first = dataset_key(fresh(data))
    assert set(first["files"]) == {"table.yaml", "rows.csv"} and "images" in first
    assert dataset_key(fresh(copy)) == first
    assert dataset_fingerprint(fresh(copy)) == dataset_fingerprint(fresh(data))


def test_pictures_are_read_once(cache, data, monkeypatch):
    before = {entry.path for entry in entries()}
    first = dataset_key(fresh(data))
    (entry,) = [entry for entry in entries() if entry.path not in before]
    assert (entry.kind, entry.about) == ("contents", "table: what is in its pictures")
    monkeypatch.setattr("trainables.data.cache.identity.checksum", None)
    assert dataset_key(fresh(data)) == first


@pytest.mark.parametrize("change, different", [
    (lambda data: (data / "3.png").write_bytes((data / "4.png").read_bytes()), ["pictures"]),
    (lambda data: (data / "rows.csv").write_text((data / "rows.csv").read_text().replace("a\n", "c\n")), ["rows.csv"]),
    (lambda data: (data / "table.yaml").write_text(YAML + "split: null\n"), ["table.yaml"]),
])  # fmt: skip
def test_what_differs_is_named(cache, data, change, different):
    first = dataset_key(fresh(data))
    change(data)
    second = dataset_key(fresh(data))
    assert second != first and differences(first, second) == differences(second, first) == different


def test_a_file_that_one_has_alone_differs():
    one, other = ({"dataset": "x", "files": files} for files in ({"a": "1"}, {"a": "1", "b": "2"}))
    assert differences(one, other) == differences(other, one) == ["b"] and differences(one, one) == []
