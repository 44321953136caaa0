import numpy as np
import pytest
import torch
from torch import nn

from trainables.layers.tirg import Tirg

B, D = 6, 5


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image_BD, text_BD = torch.randn(2, B, D, generator=generator)
    return image_BD, 3 * text_BD + 1


def trained(**kwargs) -> Tirg:
    """A TIRG whose every tensor differs from its initial value, so that none is forgotten or swapped unseen."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(2)
        model = Tirg(D, **kwargs)
    generator = torch.Generator().manual_seed(3)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.add_(noise if name.endswith(("w_g", "w_r")) else noise - 0.3)
    return model


def recompute(model: Tirg, *, norm: str, is_training: bool) -> np.ndarray:
    """docs/methods.md#tirg in numpy, tensors picked by shape and order instead of by the module's forward."""
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    image, text = (value.double().numpy() for value in inputs())
    both = np.concatenate([image, text], axis=1)

    def normed(branch: str) -> np.ndarray:
        if norm == "none":
            return both
        scale, shift = state[f"{branch}.0.weight"], state[f"{branch}.0.bias"]
        if norm == "layer":
            mean, var = both.mean(axis=1, keepdims=True), both.var(axis=1, keepdims=True)
        elif is_training:
            mean, var = both.mean(axis=0), both.var(axis=0)
        else:
            mean, var = state[f"{branch}.0.running_mean"], state[f"{branch}.0.running_var"]
        return scale * (both - mean) / np.sqrt(var + 1e-5) + shift

    def branch(name: str) -> np.ndarray:
        weights = [value for key, value in state.items() if key.startswith(name) and value.ndim == 2]
        biases = [
            state[key[: -len("weight")] + "bias"] for key in state if key.startswith(name) and state[key].ndim == 2
        ]
        hidden = normed(name)
        for weight, bias in zip(weights, biases, strict=True):
            hidden = np.maximum(hidden, 0) @ weight.T + bias
        return hidden

    gate, residual = branch("gate"), branch("residual")
    return state["w_g"] / (1 + np.exp(-gate)) * image + state["w_r"] * residual


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("gate_layers", [1, 2])
@pytest.mark.parametrize("is_training", [True, False])
def test_against_numpy(norm, gate_layers, is_training):
    model = trained(norm=norm, gate_layers=gate_layers).train(is_training)
    expected = recompute(model, norm=norm, is_training=is_training)
    torch.testing.assert_close(model(*inputs()).detach().double().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_batch_statistics_move_as_pytorch_defines_them():
    model = Tirg(D).train()
    image_BD, text_BD = inputs()
    model(image_BD, text_BD)
    both = torch.cat([image_BD, text_BD], dim=1).numpy()
    for branch in (model.gate, model.residual):
        norm = branch[0]
        assert isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None
        assert norm.running_mean.numpy() == pytest.approx(0.1 * both.mean(axis=0), rel=1e-4)
        assert norm.running_var.numpy() == pytest.approx(0.9 + 0.1 * both.var(axis=0, ddof=1), rel=1e-4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()(image_BD, text_BD)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_number_of_parameters_at_768():
    model, d = Tirg(768), 768
    norms = 2 * (2 * 2 * d)  # two BatchNorms, scale and shift of 2D each
    gate = 2 * d * d + d
    residual = (2 * d * 2 * d + 2 * d) + (2 * d * d + d)
    assert norms + gate + residual == 4_727_808
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_727_808 + 2


def test_the_branches_share_nothing_and_the_scalars_start_at_1_and_10():
    model = Tirg(D)
    assert (model.w_g.item(), model.w_r.item()) == (1.0, 10.0)
    assert model.w_g.requires_grad and model.w_r.shape == ()
    assert not {id(p) for p in model.gate.parameters()} & {id(p) for p in model.residual.parameters()}
    model(*inputs()).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert Tirg(D, w_g=0.5, w_r=0.1).w_r.item() == pytest.approx(0.1)


def test_without_the_residual_an_image_of_zeros_stays_zero():
    model = trained(w_r=0.0).eval()
    with torch.no_grad():
        model.w_r.zero_()
        image_BD, text_BD = inputs()
        assert (model(torch.zeros_like(image_BD), text_BD) == 0).all()
        gated = model(image_BD, text_BD) / (model.w_g * image_BD)
    assert ((gated > 0) & (gated < 1)).all()


def test_one_row_trains_on_the_running_statistics():
    model = trained().train()
    image_BD, text_BD = (value[:1] for value in inputs())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    alone = model(image_BD, text_BD)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(alone, model.eval()(image_BD, text_BD))


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_the_other_norms_treat_every_row_alone(norm):
    model = trained(norm=norm).train()
    whole = model(*inputs())
    rows = torch.cat([model(*(value[row : row + 1] for value in inputs())) for row in range(B)])
    torch.testing.assert_close(whole, rows)
