from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from cases import made

from trainables.batch import Batch
from trainables.encoders.port import Port
from trainables.encoders.weights import load_config
from trainables.families.mvae import LOSS_TERMS, UNLABELLED_TERMS, Config, build, droppable, inputs
from trainables.freezing import begin_epoch
from trainables.layers.code_losses import category_loss, multinomial_loss
from trainables.losses import supervised_loss
from trainables.task import Task

TINY = {"text_encoder": "tiny-bert", "image_encoder": "tiny-cnn"}
VARIANTS = [
    {},
    {"posterior": "moe", "subset_elbo": True, "total_correlation": 4.0, "w_label": 0.5, "private_latent": 3},
    {"posterior": "concat", "beta_schedule": "cyclical", "text_decoder": "bernoulli", "private_latent": 2},
    {"modalities": "image", "enc_depth": 0, "image_decoder": "pixels", "picture_size": 16},
    {"modalities": "numeric+text"},
    {"modalities": "text+numeric+categorical+graph", "subset_elbo": True},
    {"modalities": "categorical+graph", "posterior": "concat"},
]
BY_HEART = {"beta": 1e-4}  # its probe is all that sees the labels
ON_RANKS = {"subset_elbo": True, "modalities": "text+image+categorical+graph"}
RECOMPUTED = None

TASK = Task(kind="multiclass", classes=("a", "b", "c"))
WIDTHS = {"text": 5, "image": 7}
MEAN, STD = 3.0, 2.0  # of the training rows


def mvae(task: Task = TASK, **given: Any) -> Any:
    config = Config(**{"z": 4, "enc_hidden": 6, **given})
    ports = {
        name: Port(
            modality=name, input=input, width=WIDTHS[name], encoder=None,
            mean_D=torch.full((WIDTHS[name],), MEAN), std_D=torch.full((WIDTHS[name],), STD),
        )
        for name, input in inputs(config).items()
    }  # fmt: skip
    torch.manual_seed(0)
    return build(config, task, ports).eval()


def batch() -> Batch:
    text, image = (torch.randn(6, width, generator=torch.Generator().manual_seed(1)) for width in WIDTHS.values())
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    return Batch(text_features=text, image_features=image, labels=labels, ids=list("abcdef"))


@torch.no_grad()
def test_the_vae_sees_z_scores_and_the_probe_its_posterior_mean():
    net, given = mvae(), batch()
    assert given.text_features is not None and given.image_features is not None
    scores = {"text": (given.text_features - MEAN) / STD, "image": (given.image_features - MEAN) / STD}
    out, latent = net(given), net.vae(scores)
    torch.testing.assert_close(out.features["joint"], latent.mean_BZ)
    torch.testing.assert_close(out.logits, latent.mean_BZ @ net.probe.weight.T + net.probe.bias)
    assert out.losses.keys() == {"reconstruction_text", "reconstruction_image", "kl"}
    for name, value in out.losses.items():
        torch.testing.assert_close(value, latent.losses[name])
    torch.testing.assert_close(out.features["text"], net.vae({"text": scores["text"]}).mean_BZ)
    torch.manual_seed(1)
    assert net.train()(given).features["joint"].equal(out.features["joint"])  # no draw reaches the probe
    assert out.supervised_weight == 1


@pytest.mark.parametrize(
    ("task", "labels", "guess"),
    [
        (TASK, torch.tensor([0, 1, 2, 0, 1, 2]), np.log(3)),
        (Task(kind="multilabel", classes=("a", "b")), torch.tensor([[0.0, 1.0]] * 6), np.log(2)),
        (Task(kind="regression"), torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, -0.3]), 1.0),
    ],
)
def test_labels_are_decoded_from_the_draw_where_that_is_asked_for(task, labels, guess):
    """About 1 for a guess, as each reconstruction; the probe stays cut off, and unlabelled rows take no part."""
    net, given = mvae(w_label=3.0, task=task).train(), replace(batch(), labels=labels)
    torch.manual_seed(2)
    out = net(given)
    torch.manual_seed(2)
    z_BZ = net.vae(net.encode(given)).z_BZ
    expected = supervised_loss(net.label_decoder(z_BZ), labels, task, reduction="none") * 3 / guess
    torch.testing.assert_close(out.losses["reconstruction_label"], expected.float())
    out.losses["reconstruction_label"].mean().backward()
    reached = {name.rsplit(".", 2)[0] for name, p in net.named_parameters() if p.grad is not None}
    assert (
        "label_decoder" in reached and "vae.encoders.text" in reached and not any("probe" in name for name in reached)
    )
    assert "reconstruction_label" not in net.eval()(given).losses and not hasattr(mvae(), "label_decoder")
    assert "reconstruction_label" in LOSS_TERMS and "reconstruction_label" not in UNLABELLED_TERMS


def test_labels_reach_the_probe_alone_and_the_elbo_never_does():
    net, given = mvae(subset_elbo=True).train(), batch()
    out = net(given)
    supervised_loss(out.logits, given.labels, TASK).backward(retain_graph=True)
    assert {name for name, p in net.named_parameters() if p.grad is not None} == {"probe.weight", "probe.bias"}
    net.zero_grad(set_to_none=True)
    torch.stack(list(out.losses.values())).sum().backward()
    assert {name for name, p in net.named_parameters() if p.grad is None} == {"probe.weight", "probe.bias"}


@torch.no_grad()
def test_a_missing_modality_is_an_expert_left_out():
    net, given = mvae(), batch()
    alone = net(given.without("image"))
    torch.testing.assert_close(alone.features["joint"], net(given).features["text"])
    assert alone.features.keys() == {"text", "joint"} and "reconstruction_image" not in alone.losses
    assert droppable(net.config) == ("text", "image")
    one = mvae(posterior="concat")
    assert droppable(one.config) == ()
    with pytest.raises(ValueError, match="image is missing, and this model cannot do without it"):
        one(given.without("image"))


def test_the_step_sets_beta_and_no_epoch_freezes_anything():
    net, betas = mvae(beta=0.3, beta_schedule="cyclical", anneal_epochs=1), []
    for passed in (0, 0.5, 1, 2, 2.5, 3):
        net.begin_step(passed)
        betas.append(net.vae.beta.item())
    assert betas == pytest.approx([0.0, 0.15, 0.3] * 2)
    assert not any(begin_epoch(net, epoch) for epoch in (1, 2, 3))


def test_categories_and_neighbours_are_reconstructed_as_classes(toy):
    """From the mean of the posterior given all, by the decoders; the embeddings that are read learn from it."""
    net, _, batch = made(toy, "mvae", {"modalities": "text+categorical+graph", "w_other": 2.0})
    given = batch([0, 4, 6, 8])  # of row 6 a category is missing, of some the neighbours
    out = net.eval()(given)
    z_BZ, sizes = out.features["joint"], [table.num_embeddings - 1 for table in net.categorical.encoder.tables]
    decoded = {name: net.vae.decoders[name](z_BZ) for name in ("categorical", "graph")}
    assert decoded["categorical"].shape[1] == sum(sizes) and decoded["graph"].shape[1] == 9
    expected = 2 * category_loss(decoded["categorical"], given.categories, sizes)
    torch.testing.assert_close(out.losses["reconstruction_categorical"], expected)
    torch.testing.assert_close(
        out.losses["reconstruction_graph"], 2 * multinomial_loss(decoded["graph"], given.neighbours)
    )
    torch.stack([loss.mean() for loss in net.train()(given).losses.values()]).sum().backward()
    assert net.graph.encoder.nodes.weight.grad.abs().sum() > 0
    assert all(table.weight.grad.abs().sum() > 0 for table in net.categorical.encoder.tables)
    without = net.eval()(given.without("categorical"))
    assert "reconstruction_categorical" not in without.losses


@pytest.mark.parametrize("cache_features", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["multinomial", "bernoulli"])
def test_words_and_pictures_are_reconstructed_beside_features(kind, cache_features, toy):
    """The words of a text without its specials and padding; the picture as the encoder sees it, but small."""
    settings = {"text_decoder": kind, "image_decoder": "pixels", "picture_size": 16, "w_text": 2.0, "w_image": 3.0}
    net, data, batch = made(toy, "mvae", settings, cache_features=cache_features, image_size=32)
    given = batch([0, 4, 6, 8])  # row 4 has no text
    assert (given.text_features is not None and given.image_features is not None) is cache_features
    out = net.eval()(given)
    z_BZ = out.features["joint"]
    logits, tokens = net.vae.decoders["text"](z_BZ).detach().double().numpy(), data.clean.tokens
    expected = []
    for row, line in zip([0, 4, 6, 8], logits, strict=True):
        ids = tokens.ids.row(row)[: data.max_text_len - 2]
        if kind == "multinomial":
            loss = np.mean([np.log(np.exp(line).sum()) - line[token] for token in ids]) if len(ids) else 0.0
        else:
            is_there = np.isin(np.arange(len(line)), ids)
            loss = np.log1p(np.exp(np.where(is_there, -line, line))).sum() / max(1, is_there.sum()) * (len(ids) > 0)
        expected.append(2 * loss / np.log(len(line)))
    assert len(line) == load_config("tiny-bert").vocab_size and expected[1] == 0
    assert out.losses["reconstruction_text"].tolist() == pytest.approx(expected, rel=1e-4)
    pixels = np.stack([data.clean.images[row] for row in (0, 4, 6, 8)]).reshape(4, 3, 16, 2, 16, 2).mean(axis=(3, 5))
    errors = (net.vae.decoders["image"](z_BZ).detach().numpy() - (pixels / 127.5 - 1)) ** 2
    assert out.losses["reconstruction_image"].tolist() == pytest.approx(3 * errors.mean(axis=(1, 2, 3)), rel=1e-4)
    answers = net(replace(given, input_ids=None, pixel_values=None)) if cache_features else out
    assert answers.logits.equal(out.logits)
    torch.stack([loss.mean() for loss in net.train()(given).losses.values()]).sum().backward()
    assert all(value.grad is not None for value in net.vae.decoders.parameters())


def test_what_no_modality_is_there_for_is_refused():
    for name, value, modalities in (("text", "multinomial", "image"), ("image", "pixels", "text+numeric")):
        with pytest.raises(ValueError, match=f"model.{name}_decoder: '.*' has no {name} to reconstruct"):
            Config.model_validate({"modalities": modalities, f"{name}_decoder": value})
    with pytest.raises(ValueError, match="picture_size"):
        Config.model_validate({"image_decoder": "pixels", "picture_size": 224})
