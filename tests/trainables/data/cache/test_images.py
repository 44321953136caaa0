import io
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.augment.views import ImageView
from trainables.data.cache.arrays import Shared, new_array
from trainables.data.cache.features import FeatureJob
from trainables.data.cache.images import images_key, prepare_images
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.reading.pictures import decode_image
from trainables.data.requirements import requirements
from trainables.encoders.inputs import Input
from trainables.encoders.port import load_encoder
from trainables.families import FAMILIES, family_module
from trainables.imagefit import ImageFit

FITS: tuple[ImageFit, ...] = get_args(ImageFit)


def test_prepared_images_are_the_decoded_ones_and_copies_are_their_own(cache):
    clean = prepare_images(DatasetRef("toy"), size=16)
    table = load_table(DatasetRef("toy"))
    assert isinstance(clean, np.ndarray) and clean.shape == (68, 3, 16, 16) and clean.dtype == np.uint8
    for row in range(0, 68, 9):
        assert np.array_equal(clean[row], decode_image(table.images[row], size=16, where=""))
    augmented = prepare_images(DatasetRef("toy"), size=16, view=ImageView(ops=2, magnitude=9))
    assert augmented.shape == clean.shape and not np.array_equal(augmented, clean)
    again = prepare_images(DatasetRef("toy"), size=16)
    assert isinstance(clean, np.memmap) and isinstance(again, np.memmap) and again.filename == clean.filename
    with pytest.raises(ValueError, match="read-only"):
        clean[0] = 0


@pytest.mark.parametrize("family", [family for family in FAMILIES if "image" in family_module(family).MODALITIES])
def test_every_family_has_both_views_fitted_and_a_cache_for_each(family, toy, cache):
    keys = {"clean": set(), "copies": set()}
    for fit in FITS:
        needed = requirements(toy(family, image_fit=fit, uda={"mode": "fixed", "views": "image"}))
        needed = [need for need in needed if need.modality == "image"]
        assert [need.view is None for need in needed] == [True, False]
        for need, view in zip(needed, keys, strict=True):
            assert need.image_fit == fit
            pixels = images_key(DatasetRef("toy"), 16, fit, need.view)
            keys[view].add(repr(need.features.key if need.uses_features else pixels))
    assert all(len(found) == len(FITS) for found in keys.values())


def test_an_unreadable_image_names_its_row(dataset_of, cache):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(file, "PNG")
    images = [file.getvalue(), file.getvalue()[:200], file.getvalue()]
    dataset = dataset_of("broken", ["a", "b", "c"], images)
    with pytest.raises(ValueError, match="broken row id-1: the image cannot be decoded"):
        prepare_images(dataset, size=8)


def test_each_fit_has_its_own_pixels_and_copies(dataset_of, cache):
    """Of a 2:3 poster: crop has no first and last sixth, pad has them between grey, stretch from side to side."""
    poster = np.full((24, 16, 3), 60, np.uint8)
    poster[:4], poster[20:] = 200, 250
    file = io.BytesIO()
    Image.fromarray(poster).save(file, "PNG")
    dataset = dataset_of("posters", ["a", "b"], [file.getvalue()] * 2)
    found = {fit: prepare_images(dataset, size=24, fit=fit) for fit in FITS}
    assert (found["crop"][0, :, 3:-3] == 60).all()  # bicubic looks a little beyond the cut
    assert [found["pad"][0, 0, row, 12] for row in (1, 12, 22)] == [200, 60, 250] and found["pad"][0, 0, 12, 1] == 128
    assert [found["stretch"][0, 0, row, 0] for row in (1, 12, 22)] == [200, 60, 250]
    before = len(list((cache / "images").glob("*/images.npy")))
    for fit in FITS:
        prepare_images(dataset, size=24, fit=fit, view=ImageView(ops=1, magnitude=9))
    assert len(list((cache / "images").glob("*/images.npy"))) == before + 3


def test_pictures_stay_with_their_rows_however_they_are_named(cache, tmp_path):
    """Each file once, and the rows not in the order of the files' names."""
    rng, names = np.random.default_rng(0), ["9.png", "10.png", "b.png", "a.png"]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / name)
    rows = [f"{name},{'xy'[at % 2]}\n" for at, name in enumerate(names)]
    (tmp_path / "rows.csv").write_text("picture,label\n" + "".join(rows))
    (tmp_path / "table.yaml").write_text(
        "files: rows.csv\nimage: picture\nlabels: {label: {column: label, kind: multiclass}}\n"
    )
    dataset = DatasetRef("table", str(tmp_path))
    images = prepare_images(dataset, size=16)
    for row, picture in enumerate(load_table(dataset).images):
        assert np.array_equal(images[row], decode_image(picture, size=16, where="here"))


def test_rows_share_the_picture_that_they_share(cache, tmp_path):
    """Questions on one picture: it is decoded once, and locked encoders see it once."""
    rng = np.random.default_rng(0)
    for name in ("one.png", "two.png"):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "rows.csv").write_text(
        "picture,label,split\n" + "".join(
            f"{name},{label},{split}\n"
            for name, label, split in [
                ("two.png", "a", "train"), ("one.png", "b", "train"), ("two.png", "b", "train"),
                ("two.png", "a", "val"), ("one.png", "b", "test"),
            ]
        )
    )  # fmt: skip
    (tmp_path / "table.yaml").write_text(
        "files: rows.csv\nimage: picture\nlabels: {label: {column: label, kind: multiclass}}\nsplit: split\n"
    )
    dataset = DatasetRef("table", str(tmp_path))
    images = prepare_images(dataset, size=16)
    assert isinstance(images, Shared) and len(images.values) == 2 and images.shape == (5, 3, 16, 16)
    table = load_table(dataset)
    for row, picture in enumerate(table.images):
        assert np.array_equal(images[row], decode_image(picture, size=16, where="here"))
    job = FeatureJob(dataset, "image", Input("tiny-cnn", is_locked=True), image_size=16)
    features = job.open().rows
    assert isinstance(features, Shared) and len(features.values) == 2
    encoder = load_encoder("image", Input("tiny-cnn", is_locked=True)).eval()
    with torch.no_grad():
        _, pooled = encoder(torch.from_numpy(images[np.arange(5)]))
    np.testing.assert_allclose(features[np.arange(5)].astype(np.float32), pooled.numpy(), rtol=2e-3, atol=2e-3)


def test_a_memory_map_has_its_room_before_it_is_written_to(tmp_path):
    out = new_array(tmp_path / "x.npy", dtype=np.uint8, shape=(1000, 1000))
    assert (tmp_path / "x.npy").stat().st_blocks * 512 >= 10**6  # a hole that finds no room later kills the process
    out[:] = 3
    assert np.load(tmp_path / "x.npy", mmap_mode="r").sum() == 3 * 10**6
