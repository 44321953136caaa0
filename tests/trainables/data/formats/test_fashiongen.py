import io
import os
import pickle
import sys

import h5py
import numpy as np
import pytest
from disk import by_id, classes
from PIL import Image

from trainables.data.formats import fashiongen

PRODUCTS = [(product, pose) for product in range(30) for pose in range(1 + product % 4)]


def pixels(row):
    return np.random.default_rng(row).integers(0, 256, (8, 8, 3), np.uint8)


def write_file(path, products, first_image=0):
    """Byte strings of code page 437 in columns (N, 1), as in the published files."""

    def column(values):
        return np.array([[value.encode("cp437")] for value in values])

    with h5py.File(path, "w") as file:
        file["input_description"] = column(
            f"Long sleeve shirt {product}.5 in navy. Caf\u00e9 collar. Tonal stitching." for product, _ in products
        )
        file["input_subcategory"] = column("SHIRTS" if product % 2 else "JEANS" for product, _ in products)
        file["input_category"] = column("TOPS" if product % 2 else "BOTTOMS" for product, _ in products)
        for name in ("brand", "gender", "season", "composition", "name", "department", "concat_description"):
            file[f"input_{name}"] = column(f"{name} {product % 3}" for product, _ in products)
        file["input_pose"] = column(f"id_gridfs_{pose}" for _, pose in products)
        file["input_productID"] = np.array([[product] for product, _ in products], "int32")
        file["input_msrpUSD"] = np.array(
            [[0.0 if product == 1 else 100.0 + product] for product, _ in products], "float32"
        )
        file["input_image"] = np.stack([pixels(first_image + row) for row in range(len(products))])
        file["index"] = np.arange(len(products))[:, None]


def write(folder):
    """Thirty products in one to four poses, and five others in the validation file."""
    folder.mkdir(exist_ok=True, parents=True)
    write_file(folder / "fashiongen_256_256_train.h5", PRODUCTS)
    write_file(folder / "fashiongen_256_256_validation.h5", [(product, 0) for product in range(100, 105)], 1000)


def groups(table):
    """The product of each row."""
    return [PRODUCTS[int(id[6:])][0] if id.startswith("train") else 100 + int(id[5:]) for id in table.ids]


def test_texts_labels_and_features(tmp_path):
    write(tmp_path)
    table = fashiongen.read(str(tmp_path))
    assert len(table.ids) == len(PRODUCTS) + 5 and table.problems == []
    assert set(table.texts) == {"Caf\u00e9 collar. Tonal stitching."}  # without the sentence that names the garment
    assert classes(table) == ["SHIRTS" if product % 2 else "JEANS" for product in groups(table)]
    assert classes(table, "category") == ["TOPS" if product % 2 else "BOTTOMS" for product in groups(table)]
    assert table.numeric_names == ("price",)
    assert np.array_equal(
        table.numeric[:, 0], [np.nan if product == 1 else 100 + product for product in groups(table)], equal_nan=True
    )
    assert set(table.categorical) == {"brand", "gender", "season", "composition"}
    assert table.categorical["brand"][0] == "brand 0"


def test_poses_of_a_product_stay_together(tmp_path):
    write(tmp_path)
    table = fashiongen.read(str(tmp_path))
    splits = {}
    for product, split in zip(groups(table), table.split.tolist(), strict=True):
        splits.setdefault(product, set()).add(split)
    assert all(len(found) == 1 for found in splits.values())
    assert [sum(found == {name} for found in splits.values()) for name in ("train", "val", "test")] == [27, 3, 5]


def test_pictures_are_read_when_asked_for_in_any_process(tmp_path):
    write(tmp_path)
    images = by_id(table := fashiongen.read(str(tmp_path)), table.images)

    def array(data):
        return np.asarray(Image.open(io.BytesIO(data)))

    assert np.array_equal(array(images["train-4"]), pixels(4)) and np.array_equal(array(images["test-2"]), pixels(1002))
    sent = pickle.loads(pickle.dumps(table.images))[3:5]
    assert len(sent) == 2 and np.array_equal(array(sent[1]), pixels(4))
    if sys.platform == "linux":
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(array(table.images[5]), pixels(5)) else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_a_product_in_both_files_is_left_out_of_training(tmp_path):
    write(tmp_path)
    write_file(tmp_path / "fashiongen_256_256_validation.h5", [(2, 0), (100, 0)])
    table = fashiongen.read(str(tmp_path))
    assert [
        id for id, product in zip(table.ids, groups(table), strict=True) if id.startswith("train") and product == 2
    ] == []
    assert table.problems == [
        f"fashiongen_256_256_train.h5: row {row}: product 2 is also in fashiongen_256_256_validation.h5"
        for row, (product, _) in enumerate(PRODUCTS)
        if product == 2
    ]


def test_what_is_missing_is_named(tmp_path):
    write(tmp_path)
    with h5py.File(tmp_path / "fashiongen_256_256_train.h5", "a") as file:
        del file["input_gender"]
    with pytest.raises(ValueError, match="train.h5: no dataset 'input_gender'. Known: index, input_brand"):
        fashiongen.read(str(tmp_path))
    (tmp_path / "fashiongen_256_256_train.h5").unlink()
    with pytest.raises(ValueError, match="has no fashiongen_256_256_train.h5"):
        fashiongen.sources(str(tmp_path))


def test_without_h5py(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"reading HDF5 needs h5py: pip install 'mmtune\[hdf5\]'"):
        fashiongen.read(str(tmp_path))
