from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from trainables.encoders.port import Port
from trainables.layers.multimodal_vae import MultimodalVae, VaeConfig, vae_droppable, vae_inputs
from trainables.layers.total_correlation import total_correlation
from trainables.layers.vae import active_units

B, Z = 4, 3
WIDTHS = {"text": 5, "image": 7, "numeric": 2}


def vae(**given: Any) -> MultimodalVae:
    settings = config(**{"modalities": "text+image+numeric", "z": Z, "enc_hidden": 6, **given})
    wanted = vae_inputs(settings)
    ports = {name: Port(modality=name, input=wanted[name], width=WIDTHS[name], encoder=None) for name in wanted}
    torch.manual_seed(0)
    return MultimodalVae(ports, settings).eval()


def features(*names: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    made = {name: torch.randn(B, width, generator=generator) for name, width in WIDTHS.items()}
    return {name: made[name] for name in names or WIDTHS}


class ByHand:
    """The negative ELBO in numpy, from the weights alone."""

    def __init__(self, model: MultimodalVae) -> None:
        self.state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
        self.beta, self.weights = model.beta.item(), {"text": 2.0, "image": 3.0, "numeric": 5.0}

    def mlp(self, part: str, x: np.ndarray) -> np.ndarray:
        erf = np.vectorize(lambda value: torch.erf(torch.tensor(value, dtype=torch.float64)).item())
        hidden = x @ self.state[f"{part}.0.weight"].T + self.state[f"{part}.0.bias"]
        hidden = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2)))  # GELU; the dropout behind it is module 2
        return hidden @ self.state[f"{part}.3.weight"].T + self.state[f"{part}.3.bias"]

    def expert(self, name: str, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        out = self.mlp(f"encoders.{name}", x.double().numpy())
        return out[:, :Z], np.exp(np.clip(out[:, Z:], -10, 10))

    def product(self, experts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        precision = 1 + np.sum([1 / var for _, var in experts], axis=0)
        return np.sum([mean / var for mean, var in experts], axis=0) / precision, 1 / precision

    def error(self, name: str, z: np.ndarray, x: torch.Tensor) -> float:
        return self.weights[name] * float(((self.mlp(f"decoders.{name}", z) - x.double().numpy()) ** 2).mean())

    def kl(self, mean: np.ndarray, var: np.ndarray) -> float:
        return self.beta * float(0.5 * (mean**2 + var - 1 - np.log(var)).sum(axis=1).mean())


GIVEN = {"w_text": 2.0, "w_image": 3.0, "w_other": 5.0, "beta": 0.7}


def close(found: dict[str, torch.Tensor], expected: dict[str, float]) -> None:
    assert all(value.shape == (B,) for value in found.values())
    assert {name: value.mean().item() for name, value in found.items()} == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_the_elbo_of_a_product_of_experts_by_hand():
    model, given = vae(subset_elbo=True, **GIVEN), features()
    hand, latent = ByHand(model), model(given)
    experts = {name: hand.expert(name, x) for name, x in given.items()}
    mean, var = hand.product(list(experts.values()))
    alone = {name: hand.product([expert]) for name, expert in experts.items()}
    np.testing.assert_allclose(latent.mean_BZ, mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(latent.z_BZ, mean, rtol=1e-4, atol=1e-6)  # no draw in evaluation
    for name in given:
        np.testing.assert_allclose(latent.means[name], alone[name][0], rtol=1e-4, atol=1e-6)
    subsets = sum(hand.error(name, alone[name][0], x) + hand.kl(*alone[name]) for name, x in given.items())
    errors = {f"reconstruction_{name}": hand.error(name, mean, x) for name, x in given.items()}
    close(latent.losses, {**errors, "kl": hand.kl(mean, var), "subsets": subsets})
    without = vae(**GIVEN)(given).losses
    close(without, {**errors, "kl": hand.kl(mean, var)})


@torch.no_grad()
def test_the_elbo_of_a_mixture_by_hand():
    model, given = vae(posterior="moe", subset_elbo=True, **GIVEN), features()
    hand, latent = ByHand(model), model(given)
    experts = {name: hand.expert(name, x) for name, x in given.items()}
    mean = np.mean([mean for mean, _ in experts.values()], axis=0)
    np.testing.assert_allclose(latent.mean_BZ, mean, rtol=1e-4, atol=1e-6)
    kls = {name: hand.kl(*expert) for name, expert in experts.items()}
    errors = {f"reconstruction_{name}": hand.error(name, mean, x) for name, x in given.items()}
    subsets = sum(hand.error(name, experts[name][0], x) + kls[name] for name, x in given.items())
    close(latent.losses, {**errors, "kl": sum(kls.values()) / 3, "subsets": subsets})


@torch.no_grad()
def test_the_elbo_of_one_encoder_by_hand():
    model, given = vae(posterior="concat", **GIVEN), features()
    hand, latent = ByHand(model), model(given)
    mean, var = hand.expert("all", torch.cat(list(given.values()), dim=1))
    np.testing.assert_allclose(latent.mean_BZ, mean, rtol=1e-4, atol=1e-6)
    errors = {f"reconstruction_{name}": hand.error(name, mean, x) for name, x in given.items()}
    close(latent.losses, {**errors, "kl": hand.kl(mean, var)})
    assert latent.means == {}


@pytest.mark.parametrize("posterior", ["poe", "moe"])
@torch.no_grad()
def test_a_missing_expert_is_left_out(posterior):
    model, given = vae(posterior=posterior), features("numeric", "text")
    hand, latent = ByHand(model), model(given)
    experts = [hand.expert(name, x) for name, x in given.items()]
    mean = hand.product(experts)[0] if posterior == "poe" else np.mean([mean for mean, _ in experts], axis=0)
    np.testing.assert_allclose(latent.mean_BZ, mean, rtol=1e-4, atol=1e-6)
    assert latent.losses.keys() == {"reconstruction_text", "reconstruction_numeric", "kl"}
    alone = model(features("image"))
    torch.testing.assert_close(alone.mean_BZ, model(features()).means["image"])


@pytest.mark.slow
def test_training_decodes_a_draw():
    model, given = vae(**GIVEN).train(), features()
    torch.manual_seed(5)
    latent = model(given)
    assert not torch.allclose(latent.z_BZ, latent.mean_BZ)
    hand = ByHand(model)
    z = latent.z_BZ.detach().double().numpy()
    errors = {f"reconstruction_{name}": hand.error(name, z, x) for name, x in given.items()}
    close({name: value for name, value in latent.losses.items() if name in errors}, errors)
    many = torch.stack([model(given).z_BZ.detach() for _ in range(2000)])
    mean, logvar = model.posteriors(given)[1]
    torch.testing.assert_close(many.mean(dim=0), mean[0].detach(), atol=0.1, rtol=0)
    torch.testing.assert_close(many.std(dim=0), (0.5 * logvar[0]).exp().detach(), atol=0.1, rtol=0.05)


@pytest.mark.parametrize("posterior", ["poe", "moe", "concat"])
def test_the_total_correlation_counts_more_than_the_rest_of_the_kl(posterior):
    """Where w is 1 the KL alone; beyond it beta (w - 1) times the correlation of the draw, in training only."""
    model, given = vae(posterior=posterior, total_correlation=6.0, beta=0.7).train(), features()
    given["key"] = torch.arange(B)
    torch.manual_seed(5)
    latent = model(given)
    expected = 0.7 * 5 * total_correlation(latent.z_BZ, *model.posteriors(features())[1], given["key"])
    torch.testing.assert_close(latent.losses["total_correlation"], expected)
    plain = vae(posterior=posterior, beta=0.7).train()
    torch.manual_seed(5)
    without = plain(features()).losses
    assert "total_correlation" not in without and "total_correlation" not in model.eval()(features()).losses
    for name, value in without.items():
        torch.testing.assert_close(latent.losses[name], value)
    latent.losses["total_correlation"].sum().backward()
    grads = [parameter.grad for parameter in model.encoders.parameters()]
    assert all(grad is not None and grad.any() for grad in grads)


@pytest.mark.parametrize("posterior", ["poe", "moe", "concat"])
def test_every_parameter_gets_a_gradient_also_at_beta_0(posterior):
    model = vae(posterior=posterior, subset_elbo=posterior != "concat", beta_schedule="linear", free_bits=0.1).train()
    assert model.beta == 0
    torch.stack(list(model(features()).losses.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_losses_add_up_over_micro_batches():
    model, given = vae(subset_elbo=True, free_bits=0.2, **GIVEN), features()
    whole = model(given).losses
    parts = [model({name: x[part] for name, x in given.items()}).losses for part in (slice(0, 1), slice(1, B))]
    for name, value in whole.items():
        torch.testing.assert_close(value, torch.cat([parts[0][name], parts[1][name]]))


def test_extreme_log_variances_stay_finite():
    model = vae().train()
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(1000)
    losses = model(features()).losses
    torch.stack(list(losses.values())).sum().backward()
    assert all(value.isfinite().all() for value in losses.values())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_beta_follows_the_steps():
    model = vae(beta=0.4, beta_schedule="linear", anneal_epochs=2)
    betas = []
    for passed in (0, 1, 1.25, 2, 1):
        model.begin_step(passed)
        betas.append(model.beta.item())
    assert betas == pytest.approx([0.0, 0.2, 0.25, 0.4, 0.2])
    assert "beta" not in model.state_dict()  # it follows from the step
    kls = []
    for passed in (1, 2):
        model.begin_step(passed)
        kls.append(model(features()).losses["kl"].mean().item())
    assert kls[1] == pytest.approx(2 * kls[0])


@pytest.mark.slow
def test_training_reconstructs_better_than_the_mean_and_a_large_beta_collapses():
    """Standardised features have an error of 1 when nothing is known of them."""
    generator = torch.Generator().manual_seed(2)
    factors = torch.randn(256, 2, generator=generator)
    data = {name: factors @ torch.randn(2, width, generator=generator) for name, width in WIDTHS.items()}
    data = {name: (x - x.mean(0)) / x.std(0) for name, x in data.items()}
    ends = {}
    for beta in (0.01, 10.0):
        model = vae(beta=beta, enc_hidden=32).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        history = []
        for _ in range(300):
            optimizer.zero_grad()
            losses = model(data).losses
            torch.stack(list(losses.values())).mean(dim=1).sum().backward()
            optimizer.step()
            history.append(losses["reconstruction_image"].mean().item())
        with torch.no_grad():
            ends[beta] = (np.mean(history[-20:]), active_units(model.eval()(data).mean_BZ))
        means = [np.mean(history[at : at + 100]) for at in (0, 100, 200)]
        assert beta > 1 or all(later < earlier for earlier, later in pairwise(means))
    assert ends[0.01][0] < 0.3 and ends[0.01][1] >= 2
    assert ends[10.0][0] > 0.9 and ends[10.0][1] == 0


def config(**given: Any) -> VaeConfig:
    return VaeConfig.model_validate(given)


def test_what_may_be_missing():
    assert vae_droppable(config()) == ("text", "image")
    assert vae_droppable(config(modalities="numeric+text", posterior="moe")) == ("numeric", "text")
    assert vae_droppable(config(posterior="concat")) == vae_droppable(config(modalities="text")) == ()


def test_inputs_are_locked_and_standardised():
    wanted = vae_inputs(config(modalities="numeric+image+text", text_pool="cls"))
    assert list(wanted) == ["numeric", "image", "text"] and all(input.is_locked for input in wanted.values())
    assert {name for name, input in wanted.items() if input.is_standardised} == {"text", "image"}
    assert wanted["text"].pool == "cls" and wanted["image"].output == "pooled"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"modalities": "text+sound"}, "'sound' is no modality"),
        ({"modalities": "text+image+text"}, "names a modality twice"),
        ({"posterior": "concat", "subset_elbo": True}, "model.subset_elbo: posterior 'concat' has no encoder of one"),
        ({"z": 1, "total_correlation": 2.0}, "model.total_correlation: a latent of z 1 has no dimensions"),
        ({"modalities": "text", "subset_elbo": True}, "model.subset_elbo: 'text' has no subsets"),
    ],
)
def test_what_cannot_be_is_said(given, message):
    with pytest.raises(ValidationError) as caught:
        config(**given)
    assert message in str(caught.value)


@pytest.mark.parametrize("posterior", ["poe", "moe", "concat"])
@torch.no_grad()
def test_private_latents_by_hand(posterior):
    """The KL is the sum over modalities; decoders read [shared, private]; the shared posterior is as without."""
    given, subsets = features(), posterior != "concat"
    settings = {**GIVEN, "posterior": posterior, "subset_elbo": subsets}
    plain, model = vae(**settings), vae(**settings, private_latent=2)
    hand, latent = ByHand(model), model(given)
    for one, other in zip(plain.posteriors(given)[1], model.posteriors(given)[1], strict=True):
        assert one.equal(other)
    own = {}
    for name, x in given.items():
        out = hand.mlp(f"private_encoders.{name}", x.double().numpy())
        own[name] = out[:, :2], np.exp(np.clip(out[:, 2:], -10, 10))
        np.testing.assert_allclose(latent.private_means[name], own[name][0], rtol=1e-4, atol=1e-6)
    mean = latent.mean_BZ.double().numpy()
    expected = {f"reconstruction_{n}": hand.error(n, np.hstack([mean, own[n][0]]), x) for n, x in given.items()}
    expected["kl_private"] = sum(hand.kl(*own[name]) for name in given)
    expected["kl"] = plain(given).losses["kl"].mean().item()
    if subsets:
        alone = {name: (m.mean(dim=0).double().numpy(), m, v) for name, (m, v) in model.posteriors(given)[0].items()}
        expected["subsets"] = sum(
            hand.error(name, np.hstack([alone[name][0], own[name][0]]), x)
            + hand.kl(*own[name])
            + hand.kl(alone[name][1][0].double().numpy(), np.exp(alone[name][2][0].double().numpy()))
            for name, x in given.items()
        )
    close(latent.losses, expected)
    assert list(latent.features)[-4:] == ["private_text", "private_image", "private_numeric", "joint"]


@torch.no_grad()
def test_without_private_latents_there_is_nothing_of_them():
    model = vae(**GIVEN)
    assert not [name for name in model.state_dict() if "private" in name]
    assert "kl_private" not in model(features()).losses and model(features()).private_means == {}
    missing = vae(**GIVEN, private_latent=2)(features("text", "numeric"))
    assert set(missing.private_means) == {"text", "numeric"} and missing.losses["kl_private"].shape == (B,)


def test_a_private_latent_is_drawn_in_training_and_learns_from_its_own_modality():
    model = vae(**GIVEN, private_latent=2).train()
    torch.manual_seed(3)
    one = model(features())
    torch.manual_seed(4)
    assert not one.losses["reconstruction_text"].equal(model(features()).losses["reconstruction_text"])
    one.losses["reconstruction_text"].mean().backward()
    reached = {
        name.split(".")[1] for name, p in model.private_encoders.named_parameters(prefix="x") if p.grad is not None
    }
    assert reached == {"text"}
