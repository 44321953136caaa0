"""FashionGen (Rostamzadeh et al. 2018): pictures and descriptions of garments; which of 121 sub-categories.

The first sentence of a description names the kind of garment and is removed, and so are the product's name, the
department and the joint description not read. A product has several poses: validation is a tenth of the training
products, and the official validation file is the test split. Encoding of the texts: code page 437.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from trainables.data.reading.fields import BadRow
from trainables.data.reading.folder import data_folder, missing
from trainables.data.reading.hdf5 import Hdf5Images, columns_of, open_hdf5, strings
from trainables.data.reading.rows import Rows
from trainables.data.reading.splits import held_out
from trainables.data.reading.table import Table

SUMMARY = "garments, several poses each, and their descriptions; 121 sub-categories or 48 categories"
IS_EMBEDDED = False
TARGETS = {"subcategory": "multiclass", "category": "multiclass"}

_NAME = "fashiongen"
_FILES = {"fashiongen_256_256_train.h5": "train", "fashiongen_256_256_validation.h5": "test"}
_VAL = 0.1  # of the training products
_TEXTS = {
    "text": "input_description", "subcategory": "input_subcategory", "category": "input_category",
    "brand": "input_brand", "gender": "input_gender", "season": "input_season", "composition": "input_composition",
}  # fmt: skip
_FIRST_SENTENCE = re.compile(r"^.*?[.!?](?:\s+|$)", re.DOTALL)
_LAYOUTS = (" and ".join(_FILES),)


def sources(data_dir: str | None) -> list[Path]:
    """The two HDF5 files.

    Raises:
        ValueError: no folder, or one of them is missing.
    """
    root = data_folder(_NAME, data_dir)
    for name in _FILES:
        if not (root / name).exists():
            raise missing(_NAME, root, name, _LAYOUTS)
    return [root / name for name in _FILES]


def read(data_dir: str | None) -> Table:
    """One row a pose.

    Raises:
        ValueError: as for :func:`sources`, h5py is missing, or a file is not what it should be.
    """
    paths, root = sources(data_dir), data_folder(_NAME, data_dir)
    rows = Rows(_NAME, root)
    files = [_columns(path) for path in paths]
    in_test = set(files[1]["product"])
    for at, (path, split, columns) in enumerate(zip(paths, _FILES.values(), files, strict=True)):
        for row, values in enumerate(zip(*columns.values(), strict=True)):
            item = dict(zip(columns, values, strict=True))
            id = f"{split}-{row}"
            with rows.sample(path, id=id, split=split if split == "test" else ""):
                if not item["subcategory"]:
                    raise BadRow(f"row {row} has no sub-category")
                if at == 0 and item["product"] in in_test:
                    raise BadRow(f"row {row}: product {item['product']} is also in {paths[1].name}")
                rows.add(
                    id=id, split=split, text=_FIRST_SENTENCE.sub("", item.pop("text"), count=1),
                    place=(at, row), **item,
                )  # fmt: skip
    rows.check()
    split = np.array(rows.splits, "<U5")
    train = np.flatnonzero(split == "train")
    products, kinds = rows.column("product"), rows.names("subcategory", rows.column("subcategory"), unit="label")
    is_val = held_out(
        [rows.ids[row] for row in train],
        share=_VAL,
        strata=[kinds[row] for row in train],
        groups=[products[row] for row in train],
    )
    split[train[is_val]] = "val"
    return rows.table(
        {
            "subcategory": rows.multiclass(kinds),
            "category": rows.multiclass(
                rows.names("category", [name or None for name in rows.column("category")], unit="label")
            ),
        },
        split=split,
        images=Hdf5Images(paths, "input_image", np.array(rows.column("place")), _pixels),
        numeric={"price": rows.column("price")},
        categorical={
            name: [value or None for value in rows.column(name)]
            for name in ("brand", "gender", "season", "composition")
        },
    )


def _columns(path: Path) -> dict[str, list]:
    with open_hdf5(path) as file:
        found = columns_of(file, (*_TEXTS.values(), "input_productID", "input_msrpUSD", "input_image"))
        columns: dict[str, list] = {
            name: [text.strip() for text in strings(found[source], "cp437")] for name, source in _TEXTS.items()
        }
        columns["product"] = [str(value) for value in np.asarray(found["input_productID"]).reshape(-1).tolist()]
        prices = np.asarray(found["input_msrpUSD"], np.float64).reshape(-1).tolist()
        columns["price"] = [price if math.isfinite(price) and price > 0 else math.nan for price in prices]
    return columns


def _pixels(row: np.ndarray) -> np.ndarray:
    return row.astype(np.uint8)
