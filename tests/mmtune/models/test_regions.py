"""A model on regions of a detector, whose pictures are nowhere: checked, trained, tested, exported, and asked."""

import csv
import shutil

import numpy as np
import pyarrow.parquet
import pytest
import yaml
from PIL import Image
from regions_on_disk import some, write

from mmtune.models.export import export_model
from mmtune.models.inspecting import inspect_model
from mmtune.models.predict import predict_one
from mmtune.models.reference import ModelRef
from mmtune.models.testing import evaluate_model
from trainables.answering import answers_of
from trainables.config import TrialConfig
from trainables.data.newtable import NewTable
from trainables.data.reading.dataset import DatasetRef
from trainables.evaluate import PREDICTIONS
from trainables.exported import CARD
from trainables.loop import train
from trainables.trained import load_trained

NAMES = [f"img/{row:05d}.png" for row in range(24)]
SEARCH = """\
study: s
family: vilbert
dataset: table
fixed:
  epochs: 1
  model.text_encoder: tiny-bert
  model.regions: detector
  model.region_file: found.tsv
  model.num_regions: 2
  model.region_width: 6
budget: {trials: 1}
resources: {workers: 1, cpus_per_worker: 1}
"""


def write_data(root):
    """A table of 24 rows whose pictures are not there, and what was found in them."""
    (root / "data").mkdir()
    with (root / "data" / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "text", "file", "y", "part"])
        for row, name in enumerate(NAMES):
            writer.writerow([f"k{row}", f"word{row % 5}", name, "ab"[row % 2], "train" if row < 16 else "val"])
    table = {"files": "rows.csv", "text": "text", "image": "file", "id": "key", "split": "part"}
    table |= {"labels": {"y": {"column": "y", "kind": "multiclass"}}}
    (root / "data" / "table.yaml").write_text(yaml.safe_dump(table))
    return write(root / "found", "tsv", some([name[4:-4] for name in NAMES]))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("regions")
    found, data = write_data(root), str(root / "data")
    settings = {"text_encoder": "tiny-bert", "regions": "detector", "region_file": str(found), "num_regions": 2}
    config = TrialConfig(  # pyright: ignore[reportCallIssue] (does not see Field's defaults)
        family="vilbert", dataset="table", data_dir=data, epochs=1, batch_size=8, precision="fp32",
        model={**settings, "region_width": 6},
    )  # fmt: skip
    train(config, folder=root / "model")
    return ModelRef(root / "model")


@pytest.mark.slow
def test_new_rows_are_looked_up_and_get_what_was_said_in_training(model):
    trained = load_trained(model.folder, device="cpu")
    dataset = DatasetRef("table", trained.config.data_dir, needs_pictures=False)
    rows = NewTable(trained.facts, trained.modalities, dataset, "val")
    rows.check()
    (part,) = answers_of(trained, rows.tables(100))
    written = pyarrow.parquet.read_table(model.folder / PREDICTIONS)
    assert part.ids == written["id"].to_pylist() and part.errors == [None] * 8
    np.testing.assert_allclose(part.logits, np.array(written["logits"].to_pylist()), rtol=1e-4, atol=1e-5)
    by_hand = {"key": "x", "text": "word1", "file": "elsewhere/00016.png"}
    assert sum(share for _, share in predict_one(trained, by_hand)) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"found\.tsv has no regions of elsewhere/1\.png"):
        predict_one(trained, {**by_hand, "file": "elsewhere/1.png"})


@pytest.mark.slow
def test_it_is_tested_with_and_without_its_regions(model):
    tested = evaluate_model(model, split="val", without=["image"], protocol="blank", device="cpu")
    assert tested is not None


def test_what_needs_a_picture_says_so(model, tmp_path):
    for what in ("cam", "attention", "co-attention"):
        with pytest.raises(ValueError, match="not applicable: the (model reads )?regions of an object detector"):
            inspect_model(model, [what], split="val", out=tmp_path / what, device="cpu")
    assert inspect_model(model, ["errors"], split="val", out=tmp_path / "errors", device="cpu")


@pytest.mark.slow
def test_an_exported_one_says_the_same_and_a_graph_is_refused(model, tmp_path):
    said = export_model(model, tmp_path / "out")
    copy = load_trained(tmp_path / "out", device="cpu")
    row = {"key": "x", "text": "word1", "file": "00016.png"}
    assert predict_one(copy, row) == predict_one(load_trained(model.folder, device="cpu"), row)
    assert (
        len(said.notes) == 1
        and "--regions FILE" in said.notes[0]
        and "--regions FILE" in (tmp_path / "out" / CARD).read_text()
    )
    with pytest.raises(ValueError, match="--format onnx: the model reads regions"):
        export_model(model, tmp_path / "graph", format="onnx")


@pytest.mark.slow
def test_elsewhere_it_says_what_it_needs_and_takes_it(mmtune):
    """Its data and their regions are gone: the same rows, looked up in another file, give the same answers."""
    root = mmtune.cwd
    found, new = write_data(root), root / "new.csv"
    settings = {"text_encoder": "tiny-bert", "regions": "detector", "region_file": str(found), "num_regions": 2}
    config = TrialConfig(  # pyright: ignore[reportCallIssue] (does not see Field's defaults)
        family="vilbert", dataset="table", data_dir=str(root / "data"), epochs=1, batch_size=8, precision="fp32",
        model={**settings, "region_width": 6},
    )  # fmt: skip
    train(config, folder=root / "here")
    said = mmtune("export", "here", "--to", "out")
    assert said.code == 0 and said.out.startswith("note: the model reads regions of an object detector, 6 numbers each")
    shutil.copyfile(root / "data" / "rows.csv", new)
    assert mmtune("predict", "out", "--data", "new.csv", "--out", "a.csv").code == 0
    moved = write(root / "moved", "npy", some([name[4:-4] for name in NAMES]))
    found.unlink()
    for command in (
        ["predict", "out", "--data", "new.csv"],
        ["predict", "out", "--text", "word1", "--image", "00016.png"],
    ):
        refused = mmtune.refused(*command)
        assert (
            f"2 a picture of 6 numbers each, and {found} is not there: --regions FILE" in refused
            and "\n" not in refused
        )
    done = mmtune("predict", "out", "--data", "new.csv", "--regions", str(moved), "--out", "b.csv")
    assert done.code == 0 and (root / "a.csv").read_bytes() == (root / "b.csv").read_bytes()
    one = mmtune("predict", "out", "--text", "word1", "--image", "00016.png", "--regions", str(moved))
    assert one.code == 0 and one.out.startswith("class")
    assert mmtune("test", "out", "--data", "data", "--split", "val", "--regions", str(moved)).code == 0
    assert "moved/nowhere is not there" in mmtune.refused(
        "embed", "out", "--data", "new.csv", "--regions", "moved/nowhere"
    )


@pytest.mark.slow
def test_what_is_wrong_with_the_file_is_said_before_anything_starts(mmtune):
    write_data(mmtune.cwd)
    (mmtune.cwd / "s.yaml").write_text(SEARCH)
    write(mmtune.cwd / "few", "npy", some([name[4:-4] for name in NAMES[3:]]))
    (mmtune.cwd / "cut.tsv").write_bytes((mmtune.cwd / "found.tsv").read_bytes()[:-30])
    for setting, message in {
        "fixed.model.region_file=few": "no regions of 3 of 24 rows of table",
        "fixed.model.region_file=cut.tsv": "cut.tsv 00023: ",
        "fixed.model.region_file=null": "model.regions: detector needs model.region_file",
        "fixed.uda.mode=fixed": "use text",
    }.items():
        said = mmtune.refused("check", "s.yaml", "--data", "data", "--set", setting)
        assert message in said and "\n" not in said
    assert mmtune.refused("run", "s.yaml", "--data", "data", "--set", setting) == said


@pytest.mark.slow
def test_all_trials_of_a_search_have_the_same_rows(mmtune):
    """The grid's need pictures: a search over both kinds is refused where some are missing."""
    write_data(mmtune.cwd)
    (mmtune.cwd / "data" / "img").mkdir()
    for name in NAMES[:22]:
        Image.new("RGB", (40, 20), "red").save(mmtune.cwd / "data" / name)
    before, after = SEARCH.split("  model.regions: detector\n")
    fixed, budget = after.split("budget")
    searched = {
        f"model.{name}": {"type": "categorical", "choices": [value], "when": {"model.regions": "detector"}}
        for name, value in (("region_file", "found.tsv"), ("num_regions", 2), ("region_width", 6))
    }
    space = {"model.regions": {"type": "categorical", "choices": ["grid", "detector"]}, **searched}
    (mmtune.cwd / "s.yaml").write_text(f"{before}{yaml.safe_dump({'space': space})}budget{budget}")
    said = mmtune.refused("check", "s.yaml", "--data", "data")
    assert said == (
        "model.regions: 2 rows of table have no picture, which grid needs and detector does not: trials would "
        "differ in their rows; add those pictures, or give each kind a study of its own"
    )
