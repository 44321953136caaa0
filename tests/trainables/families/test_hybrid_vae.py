from typing import Any

import pytest
import torch

from trainables.batch import Batch
from trainables.encoders.port import Port
from trainables.families.hybrid_vae import Config, build, droppable, inputs
from trainables.losses import supervised_loss
from trainables.task import Task

TINY = {"text_encoder": "tiny-bert", "image_encoder": "tiny-cnn"}
VARIANTS = [
    {},
    {"posterior": "moe", "total_correlation": 4.0},
    {"posterior": "concat", "cls_depth": 0},
    {"modalities": "image+text", "subset_elbo": True, "free_bits": 0.1, "text_decoder": "multinomial"},
    {"modalities": "text+image+numeric", "subset_elbo": True, "text_pool": "cls"},
    {"modalities": "numeric+categorical+graph", "posterior": "moe"},
]
BY_HEART = {"beta": 1e-4, "gamma": 10.0}
ON_RANKS = {"warmup_cls_epochs": 1}
RECOMPUTED = None

TASK = Task(kind="multiclass", classes=("a", "b", "c"))
WIDTHS = {"text": 5, "image": 7}


def hybrid(**given: Any) -> Any:
    config = Config(**{"z": 4, "enc_hidden": 6, "cls_hidden": 8, "dropout": 0.0, **given})
    wanted = inputs(config)
    ports = {name: Port(modality=name, input=wanted[name], width=WIDTHS[name], encoder=None) for name in wanted}
    torch.manual_seed(0)
    return build(config, TASK, ports).eval()


def batch() -> Batch:
    text, image = (torch.randn(6, width, generator=torch.Generator().manual_seed(1)) for width in WIDTHS.values())
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    return Batch(text_features=text, image_features=image, labels=labels, ids=list("abcdef"))


@torch.no_grad()
def test_the_classifier_reads_the_mean_in_evaluation_and_a_draw_in_training():
    net, given = hybrid(), batch()
    assert given.text_features is not None and given.image_features is not None
    features = {"text": given.text_features, "image": given.image_features}
    out = net(given)
    torch.testing.assert_close(out.logits, net.head(out.features["joint"]))
    torch.manual_seed(3)
    drawn = net.train()(given)
    torch.manual_seed(3)
    latent = net.vae(features)
    torch.testing.assert_close(drawn.logits, net.head(latent.z_BZ))
    assert not torch.allclose(drawn.logits, out.logits)
    torch.testing.assert_close(drawn.features["joint"], out.features["joint"])  # the mean in both


def test_the_classifier_shapes_the_latent():
    net, given = hybrid().train(), batch()
    supervised_loss(net(given).logits, given.labels, TASK).backward()
    reached = {
        name.split(".")[0] + "." + name.split(".")[1] for name, p in net.named_parameters() if p.grad is not None
    }
    assert {"vae.encoders", "head.0"} <= reached and "vae.decoders" not in reached


def test_gamma_waits_for_the_warm_up():
    net, given = hybrid(gamma=7.0, warmup_cls_epochs=2, beta=0.2, beta_schedule="linear", anneal_epochs=2), batch()
    seen = []
    for passed in (0, 1, 1.75, 2, 0):
        net.begin_step(passed)
        seen += [net(given).supervised_weight, net.vae.beta.item()]
    assert seen == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.0, 0.175, 7.0, 0.2, 0.0, 0.0])
    assert hybrid(gamma=7.0)(given).supervised_weight == 7.0
    net = hybrid(warmup_cls_epochs=1).train()
    out = net(given)
    own = torch.stack(list(out.losses.values())).mean(dim=1).sum()
    total = out.supervised_weight * supervised_loss(out.logits, given.labels, TASK) + own
    total.backward()
    assert all(p.grad is not None for p in net.parameters())  # DDP waits for each, also in the warm-up
    assert all(not p.grad.any() for p in net.head.parameters())


@torch.no_grad()
def test_a_missing_modality_is_an_expert_left_out():
    for posterior in ("poe", "moe"):
        net, given = hybrid(posterior=posterior), batch()
        alone = net(given.without("text"))
        torch.testing.assert_close(alone.logits, net.head(net(given).features["image"]))
        assert droppable(net.config) == ("text", "image")
