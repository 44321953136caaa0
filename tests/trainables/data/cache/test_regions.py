import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from regions_on_disk import KINDS, some, write

from trainables.config import TrialConfig
from trainables.data.cache.regions import prepare_regions, region_finder
from trainables.data.open import open_data
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.requirements import requirements
from trainables.encoders.inputs import Input
from trainables.losses import supervised_loss
from trainables.model import build_model, model_size

TOY = DatasetRef("toy")
IDS = [f"row-{row}" for row in range(68)]
FOUND = some(IDS)


def read_of(path, *, num: int = 3, width: int = 6) -> Input:
    return Input(str(path), is_locked=True, output="regions", num_tokens=num, width=width)


def rows_of(dataset: DatasetRef, input: Input) -> Any:
    return prepare_regions(dataset, input).rows


@pytest.fixture(scope="module")
def region_file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("regions") / "toy", "tsv", FOUND)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_what_was_found_in_their_pictures_and_zeros_behind(kind, tmp_path):
    rows = rows_of(TOY, read_of(write(tmp_path / "regions", kind, FOUND), num=2))
    assert rows.shape == (68, 2, 6 + 5)
    for at, id in enumerate(IDS):
        one, expected = FOUND[id], np.zeros((2, 11), np.float32)
        num = min(2, len(one.features))
        shares = one.boxes / np.float32([40, 20, 40, 20])
        expected[:num] = np.concatenate([one.features, shares, np.ones((len(shares), 1))], axis=1)[:num]
        np.testing.assert_array_equal(rows[np.array([at])][0], expected.astype(np.float16))


def test_one_copy_serves_every_number_of_regions(region_file):
    few, all_ = (rows_of(TOY, read_of(region_file, num=num)) for num in (1, 5))
    assert few.values.filename == all_.values.filename
    rows = np.arange(68)
    np.testing.assert_array_equal(few[rows], all_[rows][:, :1])
    assert not all_[rows][:, 3:].any()


def test_new_rows_find_what_the_cache_has(region_file):
    input = read_of(region_file, num=2)
    find, rows = region_finder(input), rows_of(TOY, input)
    for at in (0, 1, 67):
        np.testing.assert_array_equal(find(None, IDS[at]), rows[np.array([at])][0])
        np.testing.assert_array_equal(find(f"/far/away/{IDS[at]}.png", "x"), rows[np.array([at])][0])
    with pytest.raises(ValueError, match=r"has no regions of /a/b\.png"):
        find("/a/b.png", "x")


def test_what_is_missing_is_named_with_its_number(tmp_path):
    path = write(tmp_path / "few", "h5", {id: FOUND[id] for id in IDS[5:]})
    with pytest.raises(
        ValueError, match=r"no regions of 5 of 68 rows of toy, looked up by their ids: row-0, row-1, row-2, \.\.\.;"
    ):
        prepare_regions(TOY, read_of(path))


def test_another_width_is_refused(region_file):
    for _ in range(2):  # read, and from the cache
        with pytest.raises(ValueError, match=r"features of 6 numbers, and model\.region_width is 2048"):
            prepare_regions(TOY, read_of(region_file, width=2048))
        prepare_regions(TOY, read_of(region_file))


def test_features_of_several_widths_or_beyond_float16_are_refused(tmp_path):
    odd = {**FOUND, "row-9": some(["row-9"], width=7)["row-9"]}
    with pytest.raises(ValueError, match=r"row-9: features of 7 numbers"):
        prepare_regions(TOY, read_of(write(tmp_path / "odd", "tsv", odd)))
    large = {**FOUND, "row-9": FOUND["row-9"]._replace(features=FOUND["row-9"].features * 1e6)}
    with pytest.raises(ValueError, match="row-9: features that do not fit float16"):
        prepare_regions(TOY, read_of(write(tmp_path / "large", "tsv", large)))


# --- which picture of a file is a row's --------------------------------------------------------------
def table_of(root, names, *, has_pictures: bool = False):
    """A table whose rows name pictures that are not there."""
    root.mkdir(exist_ok=True)
    lines = ["id,text,image,label,split"]
    for at, name in enumerate(names):
        lines.append(f"r{at},word {at},{name},{'ab'[at % 2]},{'train' if at < 4 else 'val'}")
    (root / "rows.csv").write_text("\n".join(lines))
    spec = {
        "files": "rows.csv", "text": "text", "image": "image", "id": "id", "split": "split",
        "labels": {"kind": {"column": "label", "kind": "multiclass"}},
    }  # fmt: skip
    (root / "table.yaml").write_text(yaml.safe_dump(spec))
    return DatasetRef("table", str(root), needs_pictures=has_pictures)


NAMES = [f"img/COCO_{number:012d}.jpg" for number in range(10, 16)]


@pytest.mark.parametrize(
    "called",
    [
        lambda at: f"img/COCO_{at + 10:012d}",
        lambda at: f"COCO_{at + 10:012d}",
        lambda at: NAMES[at],
        lambda at: str(at + 10),
        lambda at: f"r{at}",
    ],
)
def test_regions_are_found_by_the_pictures_name_or_the_id(called, tmp_path):
    dataset, found = table_of(tmp_path / "data", NAMES), some(NAMES)
    path = write(tmp_path / "regions", "lmdb", {called(at): found[name] for at, name in enumerate(NAMES)})
    rows = rows_of(dataset, read_of(path))
    for at, name in enumerate(NAMES):
        np.testing.assert_array_equal(rows[np.array([at])][0, :1, :6], found[name].features[:1].astype(np.float16))


def test_two_pictures_are_not_one(tmp_path):
    dataset = table_of(tmp_path / "data", ["a/1.jpg", "b/1.jpg", "a/2.jpg", "b/2.jpg", "a/3.jpg", "b/3.jpg"])
    path = write(tmp_path / "regions", "tsv", some(["1", "2", "3"]))
    with pytest.raises(ValueError, match="without folder and suffix are the same for several pictures"):
        prepare_regions(dataset, read_of(path))


def test_without_pictures_rows_stay_where_regions_are_read(tmp_path):
    dataset = table_of(tmp_path / "data", NAMES)
    assert len(load_table(dataset).ids) == 6
    with pytest.raises(ValueError, match="no row that can be used"):
        load_table(dataclasses.replace(dataset, needs_pictures=True))


# --- in a trial ----------------------------------------------------------------------------------------
def vilbert(toy, region_file, *, uda=None, **given) -> TrialConfig:
    model = {"text_encoder": "tiny-bert", "regions": "detector", "region_file": str(region_file), "num_regions": 3}
    values = {**toy("vilbert").to_dict(), "model": {**model, "region_width": 6, **given}}
    return TrialConfig(**values if uda is None else {**values, "uda": uda})


@pytest.mark.parametrize("lxmert", [{}, {"architecture": "lxmert", "text_encoder": "tiny-lxmert"}])
def test_a_trial_reads_them_and_learns_from_them(lxmert, toy, region_file):
    config = vilbert(toy, region_file, **lxmert)
    data = open_data(config)
    batch = data.batch(np.arange(6), data.clean)
    assert batch.image_features is not None and batch.image_features.shape == (6, 3, 11)
    assert batch.pixel_values is None
    torch.manual_seed(0)
    net = build_model(config, data)
    supervised_loss(net(batch).logits, batch.labels, data.task).backward()
    without = [name for name, part in net.named_parameters() if part.requires_grad and part.grad is None]
    assert not without
    assert model_size(config).num_parameters == sum(part.numel() for part in net.parameters())


def test_no_pixels_are_asked_for(toy, region_file):
    fields = [need.field for need in requirements(vilbert(toy, region_file))]
    assert fields == ["tokens", "image_features"]


def test_pictures_that_are_not_read_cannot_be_augmented(toy, region_file):
    config = vilbert(toy, region_file, uda={"mode": "fixed"})
    with pytest.raises(ValueError, match=r"uda\.views: 'both' augments pictures"):
        requirements(config)
