import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from trainables.checkpoint import (
    load_checkpoint,
    load_if_whole,
    load_model,
    load_optimizer,
    model_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from trainables.config import OptimConfig
from trainables.encoders.inputs import Input
from trainables.encoders.port import Port
from trainables.optim import build_optimizer


def test_tensors_and_state_come_back(tmp_path):
    tensors = {"a/b": torch.randn(3, 4).t(), "step": torch.tensor(3.0), "n": torch.tensor([2**40])}
    state = {"epoch": 3, "value": 0.1 + 0.2, "none": None, "rows": [{"x": 1e-300}]}
    path = tmp_path / "new" / "last.safetensors"
    save_checkpoint(path, tensors, state)
    loaded, loaded_state = load_checkpoint(path)
    assert loaded_state == state
    assert loaded.keys() == tensors.keys()
    assert all(loaded[name].equal(tensors[name]) and loaded[name].dtype == tensors[name].dtype for name in tensors)
    assert [file.name for file in path.parent.iterdir()] == ["last.safetensors"]


def test_a_failing_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, {"a": torch.zeros(1)}, {"epoch": 1})
    with pytest.raises(TypeError):
        save_checkpoint(path, {"a": torch.ones(1)}, {"epoch": object()})
    assert load_checkpoint(path)[1] == {"epoch": 1}


def test_files_that_are_no_checkpoint_are_named(tmp_path):
    path = tmp_path / "last.safetensors"
    for write in (
        lambda: None,
        lambda: path.write_bytes(b"nothing of the kind"),
        lambda: save_file({"a": torch.zeros(1)}, path),
        lambda: save_file({"a": torch.zeros(1)}, path, metadata={"state": "{"}),
    ):
        write()
        with pytest.raises(ValueError, match="last.safetensors: not a checkpoint"):
            load_checkpoint(path)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_no_checkpoint(tmp_path):
    path = tmp_path / "last.safetensors"
    assert load_if_whole(path) is None
    save_checkpoint(path, {"b": torch.zeros(0), "a": torch.arange(40.0).bfloat16(), "c": torch.tensor(True)}, {"x": 1})
    whole = path.read_bytes()
    assert load_if_whole(path)[1] == {"x": 1}
    damaged = [whole[: len(whole) // 2], whole[:-1], bytes(len(whole)), b"", whole[:-8] + bytes(8)]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for data in damaged:
        path.write_bytes(data)
        try:
            read = load_checkpoint(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: not a checkpoint (")
            with pytest.warns(UserWarning, match="; what it held is trained again"):
                assert load_if_whole(path) is None
        else:  # the space behind the header
            assert read[1] == {"x": 1} and read[0]["a"].equal(torch.arange(40.0).bfloat16())
            assert data.replace(b"!", b" ") == whole
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match=str(path)):
        load_if_whole(path)


def model_with(*, is_locked):
    torch.manual_seed(1)
    encoder = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    port = Port(modality="image", input=Input(encoder="x", is_locked=is_locked), width=3, encoder=encoder)
    return nn.ModuleDict({"image": port, "head": nn.Linear(3, 2)})


def test_locked_encoders_are_left_out_and_trained_ones_come_with_their_buffers():
    assert model_tensors(model_with(is_locked=True)).keys() == {"head.weight", "head.bias"}
    assert "image.encoder.1.running_mean" in model_tensors(model_with(is_locked=False))
    plain = nn.Linear(1, 1)
    assert model_tensors(plain).keys() == {"weight", "bias"}


def test_a_model_that_does_not_fit_is_refused():
    model = model_with(is_locked=True)
    tensors = {name: value.clone() for name, value in model_tensors(model).items()}
    before = model.state_dict()["head.weight"].clone()
    with pytest.raises(ValueError, match=r"missing \['head.bias'\], unknown \[\]"):
        load_model(model, {"head.weight": tensors["head.weight"]})
    with pytest.raises(ValueError, match=r"missing \[\], unknown \['tail'\]"):
        load_model(model, {**tensors, "tail": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"head.weight is \(3,\), not \(2, 3\)"):  # copy_ would broadcast
        load_model(model, {**tensors, "head.weight": torch.zeros(3)})
    assert model.state_dict()["head.weight"].equal(before)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_an_optimiser_goes_on_as_if_nothing_had_happened(tmp_path, layout):
    """Also where parameters are channels-last: the fused kernel pairs values by their place in memory."""

    def build():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)).to(memory_format=layout)
        return model, build_optimizer(model, OptimConfig.model_validate({"lr": 0.1}))

    def step(model, optimizer, seed):
        optimizer.zero_grad()
        model(torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
        optimizer.step()

    straight, twice = build(), build()
    for seed in range(4):
        step(*straight, seed)
    for seed in range(2):
        step(*twice, seed)
    model, optimizer = twice
    named = {f"m/{name}": value for name, value in model_tensors(model).items()}
    named |= {f"o/{name}": value for name, value in optimizer_tensors(model, optimizer).items()}
    save_checkpoint(tmp_path / "x", named, {})
    tensors, _ = load_checkpoint(tmp_path / "x")
    model, optimizer = build()
    load_model(model, {name[2:]: value for name, value in tensors.items() if name.startswith("m/")})
    load_optimizer(model, optimizer, {name[2:]: value for name, value in tensors.items() if name.startswith("o/")})
    for parameter in model.parameters():
        assert optimizer.state[parameter]["exp_avg"].stride() == parameter.stride()
    for seed in range(2, 4):
        step(model, optimizer, seed)
    for ours, theirs in zip(model.parameters(), straight[0].parameters(), strict=True):
        assert ours.equal(theirs)


def test_state_is_json_in_the_header_so_that_it_is_read_without_the_tensors(tmp_path):
    save_checkpoint(tmp_path / "x", {"a": torch.zeros(1000)}, {"epoch": 1})
    raw = (tmp_path / "x").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    assert json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["state"]) == {"epoch": 1}
