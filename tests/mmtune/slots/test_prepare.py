"""``mmtune data prepare``, ``list``, ``prune`` and ``preview`` as people use them, with a cache of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmtune.slots.requirements import search_requirements
from mmtune.space.corners import corners
from mmtune.spec.search_spec import load_spec
from trainables.data.requirements import requirements

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
SEARCH = """\
study: s
family: {type: categorical, choices: [text, fusion]}
dataset: openclipart
fixed: {max_text_len: 8, image_size: 16, model.text_encoder: tiny-bert, model.lock_text: true}
space:
  model.image_encoder: {type: categorical, choices: [tiny-cnn, tiny-vit], when: {family: fusion}}
  uda.mode: {type: categorical, choices: ["none", fixed], when: {family: text}}
budget: {trials: 5}
"""


class Verbs:
    """``mmtune data`` with a cache of its own; gives what it prints."""

    def __init__(self, command: Any) -> None:
        self.command, self.cwd = command, command.cwd
        self.cache = self.cwd / "cache"
        command.env["MMTUNE_CACHE"] = str(self.cache)

    def __call__(self, *args: object, code: int = 0) -> str:
        done = self.command("data", *args)
        assert done.code == code, done
        assert "Traceback" not in done.err
        return done.err if code else done.out


@pytest.fixture(scope="module")
def data(command, tmp_path_factory):
    verbs = Verbs(command(tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("streams")))
    (verbs.cwd / "s.yaml").write_text(SEARCH)
    return verbs


@pytest.fixture(scope="module")
def prepared(data):
    return data("prepare", "s.yaml")


def test_everything_that_the_search_could_need_is_prepared(data, prepared, monkeypatch):
    assert "openclipart, image at 16 pixels: features (pooled) of tiny-vit" in prepared
    assert prepared.splitlines()[-1] == f"prepared in {data.cache}"
    monkeypatch.setenv("MMTUNE_CACHE", str(data.cache))
    spec = load_spec(data.cwd / "s.yaml")
    needed = search_requirements(spec, None)
    assert len(needed) == 4  # texts, their copies, and two image encoders
    assert all(need.features.is_done for need in needed)
    for params in corners(spec.space, limit=10):
        config = spec.trial_config(params, None)
        assert set(requirements(config)) <= set(needed)


def test_a_second_time_computes_nothing(data, prepared):
    before = {path: path.stat().st_mtime_ns for path in data.cache.rglob("*.npy")}
    again = data("prepare", "s.yaml")
    assert "shard" not in again and {path: path.stat().st_mtime_ns for path in data.cache.rglob("*.npy")} == before


def test_list_says_what_is_there_and_what_is_damaged(data, prepared):
    out = data("list")
    for about in ("openclipart: pooled text of tiny-bert, augmented", "openclipart: images at 16 pixels"):
        assert about in out
    assert "folders, " in out.splitlines()[-1] and "intact" not in out
    victim = next(data.cache.glob("features/*/values.npy"))
    original = victim.read_bytes()
    victim.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    lines = data("list", "--verify").splitlines()
    assert [line.split()[-1] for line in lines if victim.parent.name[:8] in line] == ["values.npy"]
    assert sum(line.split()[-1] == "intact" for line in lines) == len(list(data.cache.glob("*/*/meta.json"))) - 1
    victim.write_bytes(original)


def test_prune_takes_what_it_says_and_no_more(data, prepared):
    folders = sorted(data.cache.glob("*/*/meta.json"))
    half = data.cache / "images" / f"{'0' * 20}.tmp-12345678"
    half.mkdir()
    assert "would free" in data("prune", "--all", "--dry-run")
    assert sorted(data.cache.glob("*/*/meta.json")) == folders and half.exists()
    assert data("prune", "--days", 30).splitlines()[-1].startswith("freed")
    assert sorted(data.cache.glob("*/*/meta.json")) == folders and not half.exists()
    data("prune", "--folder", folders[0].parent.name[:8])
    assert sorted(data.cache.glob("*/*/meta.json")) == folders[1:]
    message = data("prune", "--folder", "nothing", code=2)
    assert message == "mmtune: --folder nothing: the cache has no such folder; see: mmtune data list\n"
    data("prune", "--all")
    assert not list(data.cache.glob("*/*/meta.json"))


def test_mistakes_are_one_line(data):
    assert "'tyo' is neither a file nor a search file" in data("prepare", "tyo", code=2)
    assert "encoder 'tiny-brt' is unknown" in data("prepare", "openclipart", "--text-encoder", "tiny-brt", code=2)
    assert "use the options" in data("prepare", "openclipart", "--set", "fixed.epochs=2", code=2)
    for message in (data("preview", "tyo", code=2), data("preview", "openclipart", "--out", "x.foo", code=2)):
        assert message.startswith("mmtune: ") and message.count("\n") == 1


def test_two_nodes_with_caches_of_their_own_both_get_everything(tmp_path):
    caches = [tmp_path / "a", tmp_path / "b"]
    command = [sys.executable, str(HERE / "prepare_on_two_nodes.py"), *map(str, caches)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["found"] == [[True, True, 0]] * 2  # both features, no shard left over
    assert sum("shard" in line for line in result["lines"]) == 2 * 4  # 3,290 rows: each shard once, not once a node
    one, two = (
        {path.parent.name: path.read_bytes() for path in cache.glob("features/*/values.npy")} for cache in caches
    )
    assert one == two and len(one) == 2


def test_the_preview_is_a_picture_of_both(data):
    out = data("preview", "openclipart", "--rows", 3, "--text-encoder", "tiny-bert", "--out", "pictures/p.png")
    assert out == "written: pictures/p.png\n"
    with Image.open(data.cwd / "pictures" / "p.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    left, right = np.array_split(pixels, 2, axis=1)
    assert (left < 250).any() and (right < 250).any()
