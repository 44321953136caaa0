import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from regions_on_disk import some, write
from small import TEXT
from torch import nn

from trainables.batch import Batch
from trainables.checkpoint import model_tensors
from trainables.encoders.port import Port
from trainables.encoders.weights import load_config, load_model
from trainables.families.vilbert import Config, build, droppable, inputs
from trainables.optim import part_of
from trainables.task import Task

_FOLDER = Path(tempfile.mkdtemp(prefix="toy-regions-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
_DETECTOR = {  # what a detector found in the pictures of the toy dataset, by their rows' ids; of some less than 3
    "regions": "detector",
    "region_file": str(write(_FOLDER / "toy", "tsv", some([f"row-{row}" for row in range(68)]))),
    "num_regions": 3,
    "region_width": 6,
    "image_encoder": Config.model_fields["image_encoder"].default,
}
TINY = {"text_encoder": "tiny-bert", "image_encoder": "tiny-vit"}
VARIANTS = [
    {},
    {"freeze_text_layers": 1, "joint": "concat", "lock_image": False},
    {"joint": "sum", "num_image_tokens": 1, "connections": 2, "image_layers": 3, "image_encoder": "tiny-cnn"},
    {"architecture": "lxmert", "text_encoder": "tiny-lxmert"},
    {"architecture": "lxmert", "text_encoder": "tiny-lxmert", "freeze_text_layers": 2, "lock_image": False},
    _DETECTOR,
    {"architecture": "lxmert", "text_encoder": "tiny-lxmert", **_DETECTOR},
]
ON_RANKS = {"lock_image": False, "freeze_text_layers": 0}
STAND_INS = {
    "unc-nlp/lxmert-base-uncased": ("Lxmert", {key: TEXT[key] for key in TEXT if key[:3] not in ("num", "max")})
}

TASK = Task(kind="multiclass", classes=("a", "b", "c"))
WIDTH = 10  # of the image features
LXMERT: dict[str, Any] = {"architecture": "lxmert", "text_encoder": "tiny-lxmert"}


def vilbert(*, features: int = WIDTH, **given) -> Any:
    """On ports without encoders: batches carry features."""
    config = Config.model_validate({"text_encoder": "tiny-bert", **given})
    widths = {"text": 64, "image": features}
    ports = {
        name: Port(modality=name, input=input, width=widths[name], encoder=None)
        for name, input in inputs(config).items()
    }
    torch.manual_seed(0)
    return build(config, TASK, ports).eval()


def batch(*, num_cells: int = 9, width: int = WIDTH, **given) -> Batch:
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    ids = torch.randint(5, 4000, (2, 5), generator=generator) * mask
    cells = torch.randn(2, num_cells, width, generator=generator)
    fixed = {"input_ids": ids, "attention_mask": mask, "image_features": cells}
    return Batch(**{**fixed, **given}, labels=torch.zeros(2), ids=["a", "b"])


# --- vilbert ----------------------------------------------------------------------------------------
def silent(net: Any) -> Any:
    """Connections that add nothing: their output and feed-forward layers are zero, their LayerNorms change what is
    normalised already by no more than rounding."""
    with torch.no_grad():
        for connection in net.connections:
            for reader in (connection.text_reads, connection.image_reads):
                for linear in (reader.out, reader.feed_forward[2]):
                    linear.weight.zero_()
                    linear.bias.zero_()
    return net


def test_the_text_stream_is_bert_where_the_connections_add_nothing():
    net, given = silent(vilbert(image_layers=2, connections=2)), batch()
    with torch.no_grad():
        text, image = net.streams(given)
        expected = load_model("tiny-bert")(input_ids=given.input_ids, attention_mask=given.attention_mask)
        alone, _ = net.embed_regions(given.image_features)
        for layer in net.vision_layers:
            alone = layer(alone)
    torch.testing.assert_close(text, expected.last_hidden_state, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(image, alone, rtol=1e-4, atol=1e-5)
    assert image.shape == (2, 1 + 9, 88)


def test_each_stream_hears_of_the_other():
    net, given = vilbert(), batch()
    assert given.input_ids is not None and given.image_features is not None
    other_words = batch(input_ids=given.input_ids.flip(0).roll(1, 0) + 1)
    other_image = batch(image_features=given.image_features + 1)
    with torch.no_grad():
        text, image = net.streams(given)
        assert not torch.allclose(net.streams(other_words)[1], image, atol=1e-3)
        assert not torch.allclose(net.streams(other_image)[0], text, atol=1e-3)


def test_connections_and_layers_run_as_published():
    net, order = vilbert(text_encoder="tiny-bert", image_layers=3, connections=2), []
    for kind, modules in (("text", net.text_layers), ("image", net.vision_layers), ("connection", net.connections)):
        for number, module in enumerate(modules):
            name = f"{kind} {number}"
            module.register_forward_hook(lambda module, given, out, name=name: order.append(name))
    net(batch())
    assert order == [
        "image 0", "connection 0", "image 1", "text 0", "connection 1", "image 2", "text 1",
    ]  # fmt: skip


def test_regions_are_features_and_places():
    """With the features' Linear at zero and the places' at the identity, a region is its normalised place."""
    net = vilbert()
    with torch.no_grad():
        for linear in (net.regions, net.places):
            linear.weight.zero_()
            linear.bias.zero_()
        net.places.weight[:5] = torch.eye(5)
        places = net.embed_regions(torch.randn(1, 4, WIDTH))[0][0]
        net.places.weight.zero_()
        net.regions.weight[:WIDTH] = torch.eye(WIDTH)
        cells = torch.randn(1, 4, WIDTH)
        features = net.embed_regions(cells)[0][0]

    def normalised(values: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(nn.functional.pad(values, (0, 88 - values.shape[1])), (88,), eps=1e-12)

    corners = [[0, 0, 1, 1, 1.0], [0, 0, 0.5, 0.5, 0.25], [0.5, 0, 1, 0.5, 0.25], [0, 0.5, 0.5, 1, 0.25]]
    expected = torch.tensor([*corners, [0.5, 0.5, 1, 1, 0.25]])
    torch.testing.assert_close(places, normalised(expected))
    torch.testing.assert_close(features, normalised(torch.cat([cells.mean(dim=1), cells[0]])))


@pytest.mark.parametrize("joint", ["mul", "sum", "concat"])
def test_the_joint_feature_and_the_head(joint):
    net, given = vilbert(joint=joint), batch()
    with torch.no_grad():
        text, image = net.streams(given)
        pooled = {"text": net.pool_text_stream(text[:, 0]), "image": net.pool_image_stream(image[:, 0])}
        out = net(given)
        both = {"mul": pooled["text"] * pooled["image"], "sum": pooled["text"] + pooled["image"]}
        expected = both.get(joint, torch.cat(list(pooled.values()), dim=1))
        first, last = (module for module in net.head if isinstance(module, nn.Linear))
        torch.testing.assert_close(out.features, {**pooled, "joint": expected})
        torch.testing.assert_close(out.logits, last(first(expected).relu()))
    assert all((value >= 0).all() for value in pooled.values()) and first.out_features == 2 * expected.shape[1]


@pytest.mark.parametrize(
    ("encoder", "given", "expected"),
    [  # connections, image layers, image width, co-attention width
        ("random-bert-base", {}, (6, 6, 1024, 1024)),  # as published
        ("tiny-bert", {}, (1, 1, 88, 88)),
        ("tiny-bert", {"image_heads": 4, "co_heads": 2}, (1, 1, 84, 86)),
        ("tiny-bert", {"image_layers": 3, "image_width": 40, "co_width": 16}, (1, 3, 40, 16)),
    ],
)
def test_sizes(encoder, given, expected):
    with torch.device("meta"):
        net = vilbert(text_encoder=encoder, **given)
    reader = net.connections[0].text_reads
    sizes = len(net.connections), len(net.vision_layers), net.regions.out_features, reader.query.out_features
    assert sizes == expected


def test_sizes_of_a_six_layer_bert(monkeypatch):
    from transformers import BertConfig

    from trainables.encoders.architectures import ARCHITECTURES

    monkeypatch.setitem(ARCHITECTURES, "tiny-six", lambda: BertConfig(hidden_size=384, num_hidden_layers=6))
    with torch.device("meta"):
        net = vilbert(text_encoder="tiny-six")
    assert (len(net.connections), len(net.vision_layers), net.regions.out_features) == (3, 3, 512)


@pytest.mark.slow
def test_number_of_parameters_at_the_published_sizes():
    """Closed form for BERT-base, 2048-d regions and C classes; nothing beside it, so nothing dead."""
    d, v, e, g, c = 768, 1024, 1024, 2048, 3
    connection = 3 * (d * e + v * e) + 6 * e + (e * d + d) + (e * v + v)
    connection += 2 * (2 * d) + 2 * (2 * v) + (d * 3072 + 3072 + 3072 * d + d) + 2 * (v * v + v)
    image_layer = 4 * (v * v + v) + 2 * (v * v + v) + 2 * (2 * v)
    regions = (g * v + v) + (5 * v + v) + 2 * v
    head = (d * e + e) + (v * e + e) + (e * 2 * e + 2 * e) + (2 * e * c + c)
    with torch.device("meta"):
        bert = load_model("random-bert-base")
        bert = sum(p.numel() for name, p in bert.named_parameters() if not name.startswith("pooler."))
        net = vilbert(text_encoder="random-bert-base", features=g)
    assert sum(p.numel() for p in net.parameters()) == bert + 6 * connection + 6 * image_layer + regions + head


def test_frozen_text_layers_are_those_of_the_whole_model():
    """The text port gives what the embeddings and the lowest layer gave, and the model goes on from there."""
    whole, upper, given = vilbert(), vilbert(freeze_text_layers=1), batch()
    text = inputs(Config.model_validate({"text_encoder": "tiny-bert", "freeze_text_layers": 1}))["text"]
    assert (text.is_locked, text.output, text.num_layers) == (True, "tokens", 1)
    assert not hasattr(upper, "text_embeddings") and len(upper.text_layers) == len(whole.text_layers) - 1
    bert = load_model("tiny-bert")
    with torch.no_grad():
        states = bert(
            input_ids=given.input_ids, attention_mask=given.attention_mask, output_hidden_states=True
        ).hidden_states[1]
        out = upper(batch(input_ids=None, text_features=states))
        torch.testing.assert_close(out.logits, whole(given).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [{}, LXMERT])
def test_words_learn_as_text_and_the_rest_as_a_head(model):
    parts = {name.split(".")[0]: part_of(name) for name, _ in vilbert(**model).named_parameters()}
    assert {name for name, part in parts.items() if part == "text"} == {"text_embeddings", "text_layers"}
    assert "image" not in parts.values()


# --- lxmert -----------------------------------------------------------------------------------------
def test_lxmert_is_transformers_own():
    net, given = vilbert(**LXMERT, features=48), batch(num_cells=4, width=48)
    assert isinstance(net.projection, nn.Identity)
    boxes = torch.tensor([[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]])
    with torch.no_grad():
        expected = load_model("tiny-lxmert")(
            input_ids=given.input_ids,
            attention_mask=given.attention_mask,
            visual_feats=given.image_features,
            visual_pos=boxes.expand(2, -1, -1),
        )
        out = net(given)
        torch.testing.assert_close(net.text_stream(given), expected.language_output, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(out.features["joint"], expected.pooled_output, rtol=1e-4, atol=1e-5)
        first, norm, _, last = (module for module in net.head if not isinstance(module, nn.GELU))
        hidden = norm(nn.functional.gelu(first(expected.pooled_output)))
        torch.testing.assert_close(out.logits, last(hidden), rtol=1e-4, atol=1e-5)


def test_other_features_are_projected_to_lxmerts_own():
    net = vilbert(**LXMERT)
    assert (net.projection.in_features, net.projection.out_features) == (WIDTH, 48)
    assert net(batch()).logits.shape == (2, 3)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_lxmerts_lowest_layers_can_be_frozen(frozen):
    net = vilbert(**LXMERT, freeze_text_layers=frozen).train()
    locked = {f"text_layers.{number}." for number in range(frozen)} | ({"text_embeddings."} if frozen else set())
    net(batch()).logits.sum().backward()
    for name, parameter in net.named_parameters():
        is_locked = name.startswith(tuple(locked))
        assert parameter.requires_grad is not is_locked and (parameter.grad is None) is is_locked, name
    assert [layer.training for layer in net.text_layers] == [number >= frozen for number in range(2)]
    assert not any(name.startswith(tuple(locked)) for name in model_tensors(net))
    assert net.text_embeddings.dropout.training is (frozen == 0) and net.regions.dropout.training


def test_number_of_parameters_of_lxmert():
    """About 208 M (docs/methods.md#sizes), of which the image side of the last cross layer reaches no logit."""
    d = 768
    with torch.device("meta"):
        whole = sum(p.numel() for p in load_model("random-lxmert").parameters())
        net = vilbert(architecture="lxmert", text_encoder="random-lxmert", features=2048)
    assert round(whole / 1e6) == 208
    unread = 4 * (d * d + d) + (d * 3072 + 3072 + 3072 * d + d) + 2 * (2 * d)
    head = (d * 2 * d + 2 * d) + 2 * (2 * d) + (2 * d * 3 + 3)
    assert sum(p.numel() for p in net.parameters()) == whole - unread + head


# --- what cannot be ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text_encoder": "tiny-lxmert"}, "model.text_encoder: tiny-lxmert is a lxmert, here a bert is needed"),
        ({"architecture": "lxmert"}, "model.text_encoder: tiny-bert is a bert, here a lxmert is needed"),
        ({"connections": 3}, "model.connections: 3 is more than 2, the fewer of 2 text layers and 3 image layers"),
        ({"connections": 2, "image_layers": 1}, "model.connections: 2 is more than 1, the fewer of 2 text layers"),
        ({"freeze_text_layers": 2}, "model.freeze_text_layers: 2 is more than the 1 of 2 text layers below the first"),
        ({**LXMERT, "freeze_text_layers": 3}, "model.freeze_text_layers: 3 is more than the 2 text layers"),
        ({"image_width": 44}, r"model.image_width: 44 is no multiple of model.image_heads \(8\)"),
        ({"co_width": 90, "co_heads": 4}, r"model.co_width: 90 is no multiple of model.co_heads \(4\)"),
        ({"num_image_tokens": 5}, "model.num_image_tokens: 5 is no square number"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        inputs(Config.model_validate({"text_encoder": "tiny-bert", **given}))


@pytest.mark.parametrize("model", [{}, {"freeze_text_layers": 1}, LXMERT])
@pytest.mark.parametrize("missing", ["text", "image"])
def test_nothing_may_be_missing(model, missing):
    net = vilbert(**model)
    given = batch(text_features=torch.zeros(2, 5, 64), input_ids=None) if "freeze_text_layers" in model else batch()
    assert droppable(Config.model_validate({"text_encoder": "tiny-bert", **model})) == ()
    with pytest.raises(ValueError, match=f"{missing} is missing, and this model cannot do without it"):
        net(given.without(missing))


def test_cells_that_form_no_square_are_refused():
    with pytest.raises(ValueError, match="7 image tokens form no square grid"):
        vilbert()(batch(num_cells=7))
    assert load_config("tiny-lxmert").visual_feat_dim == 48
