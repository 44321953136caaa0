"""`mmtune inspect` on small models of the toy dataset: what is written, what is not applicable, what is refused."""

from dataclasses import replace
from pathlib import Path

import cases
import numpy as np
import pandas as pd
import pytest
import torch

from analysis.inspect.asking import ask
from analysis.inspect.looking import stacks
from analysis.inspect.subject import Subject
from mmtune import records
from mmtune.models.inspecting import inspect_model
from mmtune.models.inspections import INSPECTIONS
from mmtune.models.reference import ModelRef
from trainables.answers import labelled
from trainables.config import TrialConfig
from trainables.data.formats import DATASETS
from trainables.loop import train
from trainables.trained import load_trained

TOY = Path(__file__).parents[2] / "trainables"
MODELS = {
    "clip": ("clip", {}),
    "fusion": ("fusion", {}),
    "vit": ("fusion", {"image_encoder": "tiny-vit"}),
    "vilt": ("vilt", {}),
    "lit_tirg": ("lit_tirg", {}),
    "mmbv": ("mmbv", {}),
    "vilbert": ("vilbert", {}),
    "joint": ("fusion", {"kind": "intermediate", "hidden": 32, "image_encoder": "tiny-vit"}),
    "mmbt": ("mmbt", {}),
    "moe": ("hybrid_vae", {"posterior": "moe"}),
    "decoded": (
        "mvae",
        {"image_decoder": "pixels", "picture_size": 16, "text_decoder": "multinomial", "private_latent": 4},
    ),
    "number": ("text", {}, {"target": "number", "objective": "val_rmse"}),
    "many": ("text", {}, {"target": "many", "objective": "val_ap_micro"}),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def toy():
    """The toy dataset of tests/trainables is known under 'toy'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOY))
        patch.setitem(DATASETS, "toy", "toy_dataset")
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Trains a model of MODELS for an epoch, once."""
    made = {}

    def get(name):
        if name not in made:
            family, settings, *more = MODELS[name]
            fixed = {"dataset": "toy", "image_size": 16, "epochs": 1, "batch_size": 8, "precision": "fp32"}
            given = {**cases.of(family).TINY, **settings}
            made[name] = ModelRef(tmp_path_factory.mktemp("models") / name)
            config = TrialConfig(family=family, model=given, **{**fixed, **(more[0] if more else {})})
            train(config, folder=made[name].folder)
        return made[name]

    return get


def test_features_retrieval_and_mistakes(model, tmp_path):
    found = inspect_model(model("clip"), ["latent", "retrieval", "errors", "calibration"], shown=3, kind="svg")
    folder = model("clip").folder / "inspected" / "val"
    assert found.folder == folder and sorted(found.files) == sorted(path.name for path in folder.iterdir())
    assert found.looks is None and not found.refused
    latent, silhouette = pd.read_csv(folder / "latent.csv"), pd.read_csv(folder / "silhouette.csv")
    assert set(latent["feature"]) == {"text", "image", "joint"} and len(latent) == 3 * found.num_rows
    assert len(silhouette.loc[silhouette["class"] == "all"]) == 3
    retrieval, ranks = pd.read_csv(folder / "retrieval.csv"), pd.read_csv(folder / "ranks.csv")
    for keys, rows in ranks.groupby(["query", "target", "similarity"]):
        row = retrieval.set_index(["query", "target", "similarity"]).loc[keys]
        assert row["recall_at_5"] == pytest.approx((rows["rank"] <= 5).mean())
        assert row["queries"] == len(rows) and row["mrr"] == pytest.approx((1 / rows["rank"]).mean())
    errors, pairs = pd.read_csv(folder / "errors.csv"), pd.read_csv(folder / "error_pairs.csv")
    said = dict(zip(latent["id"], latent["label"], strict=True))
    assert [said[id] for id in errors["id"]] == errors["true"].to_list() and sum(pairs["mistakes"]) == len(errors)
    accuracy = 1 - len(errors) / found.num_rows
    bins = pd.read_csv(folder / "calibration.csv")
    assert sum(bins["accuracy"].fillna(0) * bins["count"]) == pytest.approx(accuracy * found.num_rows)


def test_the_latent_of_a_vae(model, tmp_path):
    ref = model("moe")
    what = ["latents", "traversal", "reconstructions", "retrieval"]
    found = inspect_model(ref, what, rows=10**6, shown=2, out=tmp_path)
    latents = pd.read_csv(tmp_path / "latents.csv")
    reported = load_trained(ref.folder).report["val_active_units"]
    assert sum(latents["is_active"]) == reported and len(latents) == 50
    steps = pd.read_csv(tmp_path / "traversal.csv")
    assert len(steps) == 2 * 7 * 2 and set(steps["value"]) == {-3, -2, -1, 0, 1, 2, 3}
    assert set(steps["dimension"]) == set(latents.nlargest(2, "variance")["dimension"])
    table = pd.read_csv(tmp_path / "reconstructions.csv")
    assert set(zip(table["given"], table["decoded"], strict=True)) == {
        (given, decoded) for given in ("all", "text", "image") for decoded in ("text", "image")
    }
    assert len(pd.read_csv(tmp_path / "correlations.csv")) == 50 * (3 + 3)  # three classes, three numbers
    assert not found.refused and (tmp_path / "retrieval-text-image.png").exists()
    with pytest.raises(ValueError, match="traversal: not applicable: family fusion has no latent that is decoded"):
        inspect_model(model("fusion"), ["traversal", "latents"], out=tmp_path)


def test_what_is_decoded_to_pictures_and_words_is_shown(model, tmp_path):
    ref = model("decoded")
    inspect_model(ref, ["traversal", "reconstructions", "latents"], rows=10**6, shown=2, out=tmp_path)
    latents = pd.read_csv(tmp_path / "latents.csv")
    assert latents["latent"].value_counts().to_dict() == {"shared": 50, "text": 4, "image": 4}
    last = latents[latents["dimension"] == latents.groupby("latent")["dimension"].transform("max")]
    assert dict(zip(last["latent"], last["dimension"], strict=True)) == {"shared": 49, "text": 3, "image": 3}
    steps = pd.read_csv(tmp_path / "traversal.csv")
    assert len(steps) == 2 * 7 * 2 and set(steps["modality"]) == {"text", "image"}
    assert steps.groupby("modality")["words"].count().to_dict() == {"image": 0, "text": 14}
    assert all(len(words.split()) == 5 for words in steps["words"].dropna())
    table, words = pd.read_csv(tmp_path / "reconstructions.csv"), pd.read_csv(tmp_path / "words.csv")
    assert table.set_index("decoded").loc["text", "words_found"].between(0, 1).all()
    assert set(words) == {"id", "all", "text", "image"} and set(words["all"].str.split().map(len)) == {5}
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {"traversal-image.png", "reconstructions-image.png", "correlations.png"}
    trained, given = load_trained(ref.folder), labelled(load_trained(ref.folder), split="val")
    batch = given.data.batch(given.data.rows["val"], given.data.clean)
    with torch.inference_mode():
        errors = trained.model(batch).losses["reconstruction_image"].numpy()
    row = table.loc[(table["decoded"] == "image") & (table["given"] == "all")].squeeze()
    assert row["mse"] == pytest.approx(errors.mean(), rel=1e-3)


def test_maps_of_a_locked_encoder_are_measured_against_random_ones(model, tmp_path):
    inspect_model(model("vit"), ["cam", "calibration"], shown=2, out=tmp_path)
    table = pd.read_csv(tmp_path / "cam.csv")
    assert len(table) == 2 * 4 and (tmp_path / "cam.png").exists()
    areas = table[["deletion", "insertion", "random_deletion", "random_insertion", "score"]]
    assert ((areas > 0) & (areas < 1)).to_numpy().all()
    whole = inspect_model(model("vit"), ["errors"], out=tmp_path / "errors")  # what it says, on cached features
    errors = pd.read_csv(whole.folder / "errors.csv")
    wrong = dict(zip(errors["id"], errors["confidence"], strict=True))
    for row in table.to_dict("records"):
        if row["id"] in wrong:
            assert row["score"] == pytest.approx(wrong[row["id"]], abs=2e-3)
        else:
            assert row["explained"] == row["label"]
    with pytest.raises(ValueError, match="cam: not applicable: the model reads text, no picture"):
        inspect_model(model("many"), ["cam"], out=tmp_path)


@pytest.mark.parametrize("name", ["clip", "mmbt", "number"])
def test_attributions_of_words_add_up(model, tmp_path, name):
    """Of CLIP, whose table has another name, and a BERT that looks up the words behind [CLS] alone."""
    inspect_model(model(name), ["attributions"], shown=2, out=tmp_path)
    tokens, rows = pd.read_csv(tmp_path / "attributions.csv"), pd.read_csv(tmp_path / "attribution_rows.csv")
    for row in rows.to_dict("records"):
        mine = [value for id, value in zip(tokens["id"], tokens["attribution"], strict=True) if id == row["id"]]
        change = row["logit"] - row["blank_logit"]
        assert abs(change) > 1e-5 and sum(mine) == pytest.approx(change, rel=1e-2, abs=1e-4)


@pytest.mark.parametrize("name", ["vilt", "mmbt", "lit_tirg", "mmbv", "vilbert"])
def test_words_are_where_layers_have_them(model, name):
    """A word that is changed changes its own column alone in the first layer, seen from a token before all mixing:
    of the weights of the others the ratios stay."""
    trained = load_trained(model(name).folder)
    given = labelled(trained, split="val")
    subject = Subject(trained, given, given.rows[:3], Path("nowhere"))
    asked = ask(subject, 1)
    changed = asked.batch.input_ids.clone()
    place = int(asked.words[0][-1])
    changed[0, place] = changed[0, place] % 7 + 8
    before, after = (
        next(stack for stack in stacks(trained, batch) if stack.words)
        for batch in (asked.batch, replace(asked.batch, input_ids=changed))
    )
    ratio = np.log(after.layers[0].mean(axis=0)[0] / before.layers[0].mean(axis=0)[0])
    off = np.abs(ratio - np.median(ratio))
    assert before.words[int(off.argmax())] == place
    assert np.sort(off)[-2] < 0.2 * off.max()


@pytest.mark.parametrize("name", ["vilt", "vilbert", "joint", "mmbv"])
def test_attention_of_tokens_and_words_that_look_at_pictures(model, tmp_path, name):
    found = inspect_model(model(name), ["attention", "co-attention"], shown=1, out=tmp_path)
    tokens, rows = pd.read_csv(tmp_path / "attention.csv"), pd.read_csv(tmp_path / "attention_rows.csv")
    for _, part in tokens.groupby(["id", "stack"]):
        assert 0 < sum(part["last_layer"]) <= 1 + 1e-6 and 0 < sum(part["rollout"]) <= 1 + 1e-6
    assert set(rows["kind"]) == {"last layer", "rollout"} and "text" in set(rows["modality"])
    if name == "mmbv":
        assert found.refused["co-attention"].startswith("family mmbv: the streams exchange their CLS states alone")
        return
    looks = pd.read_csv(tmp_path / "co_attention.csv")
    for _, part in looks.groupby(["id", "position"]):
        assert 0 < sum(part["weight"]) <= 1 + 1e-6 and len(part) == 4  # 2 x 2 patches of 8 pixels
    with pytest.raises(ValueError, match="co-attention: not applicable: family text: it reads no picture"):
        inspect_model(model("number"), ["co-attention"], out=tmp_path)


def test_rows_are_picked_evenly_and_looks_at_test_are_counted(model, tmp_path):
    ref = model("fusion")
    found = inspect_model(ref, ["errors"], split="test", rows=2, out=tmp_path / "out")
    assert (found.num_rows, found.looks) == (2, 1)
    assert len(records.read_csv(ref.folder / records.TESTED)) == 1
    assert inspect_model(ref, ["latent"], split="train", out=tmp_path / "train").looks is None


def test_several_labels_and_numbers(model, tmp_path):
    inspect_model(model("many"), ["latent", "errors"], out=tmp_path / "many")
    assert "none of it" in set(pd.read_csv(tmp_path / "many" / "errors.csv")["true"])
    found = inspect_model(model("number"), ["latent", "errors", "calibration"], out=tmp_path / "number")
    errors = pd.read_csv(tmp_path / "number" / "errors.csv")
    assert len(errors) == found.num_rows and errors["error"].is_monotonic_decreasing
    assert found.refused == {"calibration": "the model predicts a number, which has no probability"}


def test_what_is_not_applicable_or_wrong(model, tmp_path):
    ref, out = model("fusion"), tmp_path / "out"
    with pytest.raises(ValueError, match="retrieval: not applicable: family fusion embeds no two modalities in one"):
        inspect_model(ref, ["retrieval"], out=out)
    for what, given, said in (
        (["latnt"], {}, "--what: 'latnt' is unknown, did you mean 'latent'"),
        ([], {}, "--what: is empty"),
        (["latent"], {"kind": "gif"}, "--format: 'gif' is unknown"),
        (["latent"], {"rows": 0}, "--rows 0: is below 1"),
        (["latent"], {"split": "vall"}, "split 'vall' is unknown"),
    ):
        with pytest.raises(ValueError, match=said):
            inspect_model(ref, what, out=out, **given)
    assert not out.exists()


def test_a_package_that_is_missing_is_named(model, monkeypatch):
    monkeypatch.setattr("mmtune.models.inspecting.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--what latent needs scikit-learn: pip install 'mmtune\[inspect\]'"):
        inspect_model(model("fusion"), ["latent"])


def test_every_inspection_has_a_section_of_the_page():
    page = (Path(__file__).parents[3] / "docs" / "inspect.md").read_text(encoding="utf-8")
    assert not [name for name in INSPECTIONS if f"\n## {name}\n" not in page or f"| [`{name}`](#{name}) |" not in page]
