import base64
import pickle

import h5py
import lmdb
import numpy as np
import pytest
from regions_on_disk import KINDS, Found, info, some, write

from trainables.data.reading.regionfiles import open_regions, read_regions

FOUND = some(["a", "01235", "c d"])


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_boxes_come_back_from_each_kind_of_file(kind, tmp_path):
    file = open_regions(write(tmp_path / "regions", kind, FOUND))
    assert sorted(file.ids) == sorted(FOUND)
    for id, one in FOUND.items():
        found = read_regions(file, id)
        np.testing.assert_array_equal(found.features, one.features)
        np.testing.assert_allclose(found.boxes, one.boxes / [40, 20, 40, 20], rtol=1e-6)


def test_ids_with_folders_are_paths_below_the_folder(tmp_path):
    found = some(["img/1", "img/2"])
    assert sorted(open_regions(write(tmp_path / "regions", "npy", found)).ids) == ["img/1", "img/2"]
    assert sorted(open_regions(write(tmp_path / "regions", "lmdb", found)).ids) == ["img/1", "img/2"]


def test_other_layouts_of_the_same(tmp_path):
    """ViLBERT's LMDB has base64 and one file; bottom-up attention's TSV six columns."""
    one = FOUND["a"]
    item = {
        "image_id": "a", "image_h": str(one.height), "image_w": str(one.width), "num_boxes": str(len(one.boxes)),
        "boxes": base64.b64encode(one.boxes.tobytes()), "features": base64.b64encode(one.features.tobytes()),
    }  # fmt: skip
    with lmdb.open(str(tmp_path / "one.lmdb"), subdir=False, map_size=2**22) as env, env.begin(write=True) as into:
        into.put(b"a", pickle.dumps(item))
    cells = [item[name] for name in ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")]
    line = b"\t".join(cell.encode() if isinstance(cell, str) else cell for cell in cells)
    (tmp_path / "six.tsv").write_bytes(line)
    with h5py.File(tmp_path / "attributes.hdf5", "w") as file:
        group = file.create_group("a")
        group["features"], group["boxes"] = one.features, one.boxes
        group.attrs["img_w"], group.attrs["img_h"] = one.width, one.height
    for name in ("one.lmdb", "six.tsv", "attributes.hdf5"):
        found = read_regions(open_regions(tmp_path / name), "a")
        np.testing.assert_array_equal(found.features, one.features)
        np.testing.assert_allclose(found.boxes, one.boxes / [40, 20, 40, 20], rtol=1e-6)


def test_a_picture_may_have_no_region(tmp_path):
    none = {"a": Found(np.zeros((0, 6), np.float32), np.zeros((0, 4), np.float32), 40, 20)}
    assert read_regions(open_regions(write(tmp_path / "regions", "npy", none)), "a").features.shape == (0, 6)


def changed(**given) -> dict[str, Found]:
    return {"a": FOUND["a"]._replace(**given)}


BOXES = FOUND["a"].boxes
WRONG = {
    "a box outside": (changed(boxes=BOXES + 20), "outside a picture of 40 x 20 pixels"),
    "corners": (changed(boxes=BOXES[:, [2, 3, 0, 1]]), r"which is no \[x1, y1, x2, y2\]"),
    "shares": (changed(boxes=BOXES / 100), "boxes are in pixels"),
    "counts": (changed(boxes=BOXES[:2]), "features are .* and boxes"),
    "numbers": (changed(features=np.full_like(FOUND["a"].features, np.nan)), "infinite or no number"),
    "size": (changed(width=0), "the picture's width is no number of pixels"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_together_is_refused_with_its_place(what, kind, tmp_path):
    found, message = WRONG[what]
    if (what, kind) == ("counts", "tsv"):
        message = "num_boxes is 3, and there are 2"
    file = open_regions(write(tmp_path / "regions", kind, found))
    with pytest.raises(ValueError, match=message) as error:
        read_regions(file, "a")
    assert str(tmp_path) in str(error.value) and "a" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_file_that_is_cut_short_is_refused(kind, tmp_path):
    path = write(tmp_path / "regions", kind, some(map(str, range(50)), width=400))
    inside = path / "data.mdb" if kind == "lmdb" else path
    whole = inside.read_bytes()
    used = len(whole.rstrip(b"\0"))
    for length in (0, 10, used // 2, used - 3):
        inside.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=str(path)) as error:
            file = open_regions(path)
            for id in file.ids:
                read_regions(file, id)
        assert "\n" not in str(error.value)


def test_files_that_are_something_else(tmp_path):
    (tmp_path / "a.tsv").write_text("x\ty\n")
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.h5").write_text("x")
    (tmp_path / "a.lmdb").write_text("x" * 9000)
    (tmp_path / "empty").mkdir()
    for name, message in {
        "none.h5": "no such file or folder", "a.txt": "regions are read from a folder of .npy files",
        "a.tsv": "line 1: 2 columns", "a.h5": "not an HDF5 file", "a.lmdb": "no LMDB", "empty": "has no regions",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=message):
            open_regions(tmp_path / name)


def test_nothing_in_a_file_is_run_or_read_from_elsewhere(tmp_path):
    """A pickle that names a function, and HDF5 links and datasets that lead to other files."""
    one, evil = FOUND["a"], b"cposix\nsystem\n(S'true'\ntR."
    with lmdb.open(str(tmp_path / "evil.lmdb"), map_size=2**22) as env, env.begin(write=True) as into:
        into.put(b"a", evil)
    with pytest.raises(ValueError, match=r"posix\.system is not read"):
        read_regions(open_regions(tmp_path / "evil.lmdb"), "a")
    np.save(tmp_path / "secret.npy", one.features)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["features"] = one.features
    with h5py.File(tmp_path / "links.h5", "w") as file:
        for id in ("link", "external", "soft"):
            group = file.create_group(id)
            group["boxes"], group["img_w"], group["img_h"] = one.boxes, 40, 20
        file["link/features"] = h5py.ExternalLink(tmp_path / "other.h5", "features")
        file["soft/features"] = h5py.SoftLink("/link/features")
        where = [(str(tmp_path / "secret.npy"), 128, one.features.nbytes)]
        file.create_dataset("external/features", one.features.shape, one.features.dtype, external=where)
        file["whole"] = h5py.ExternalLink(tmp_path / "links2.h5", "a")
    for id in ("link", "external", "soft"):
        with pytest.raises(ValueError, match="no features"):
            read_regions(open_regions(tmp_path / "links.h5"), id)
    with pytest.raises(ValueError, match="cannot be read|no group"):
        read_regions(open_regions(tmp_path / "links.h5"), "whole")


def test_npy_features_need_their_boxes(tmp_path):
    path = write(tmp_path / "regions", "npy", FOUND)
    (path / "a_info.npy").unlink()
    with pytest.raises(ValueError, match=r"no a_info\.npy beside it"):
        read_regions(open_regions(path), "a")
    np.save(path / "a_info.npy", np.zeros(3))
    with pytest.raises(ValueError, match="no dict with bbox"):
        read_regions(open_regions(path), "a")
    lacking = {name: value for name, value in info(FOUND["a"]).items() if name != "bbox"}
    np.save(path / "a_info.npy", lacking, allow_pickle=True)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="no boxes nor bbox; it has num_boxes"):
        read_regions(open_regions(path), "a")
