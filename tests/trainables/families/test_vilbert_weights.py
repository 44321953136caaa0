"""Published weights under their own names, against the published forward pass, written down anew by those names."""

import pickle
from typing import Any

import pytest
import torch
from test_vilbert import TASK
from torch import Tensor
from torch.nn import functional as F

from trainables.encoders.architectures import ARCHITECTURES
from trainables.encoders.port import Port
from trainables.encoders.published import without_published
from trainables.families.vilbert import Config, build, inputs

D, V, E, G, HEADS = 64, 88, 80, 12, 8
DETECTOR = {"regions": "detector", "region_file": "x.h5", "num_regions": 3, "region_width": G, "co_width": E}


def linear(into: dict[str, Tensor], name: str, rows: int, columns: int) -> None:
    into[f"{name}.weight"], into[f"{name}.bias"] = torch.randn(rows, columns) * 0.2, torch.randn(rows) * 0.2


def norm(into: dict[str, Tensor], name: str, width: int) -> None:
    into[f"{name}.weight"], into[f"{name}.bias"] = 1 + torch.randn(width) * 0.1, torch.randn(width) * 0.1


def bert_layer(into: dict[str, Tensor], name: str, width: int, hidden: int) -> None:
    for part in ("query", "key", "value"):
        linear(into, f"{name}.attention.self.{part}", width, width)
    linear(into, f"{name}.attention.output.dense", width, width)
    linear(into, f"{name}.intermediate.dense", hidden, width)
    linear(into, f"{name}.output.dense", width, hidden)
    for part in ("attention.output", "output"):
        norm(into, f"{name}.{part}.LayerNorm", width)


def published() -> dict[str, Tensor]:
    """A checkpoint of two text layers, one image layer and one connection."""
    torch.manual_seed(7)
    found: dict[str, Tensor] = {}
    for name, num in (("word", 4000), ("position", 512), ("token_type", 2)):
        found[f"embeddings.{name}_embeddings.weight"] = torch.randn(num, D)
    norm(found, "embeddings.LayerNorm", D)
    linear(found, "v_embeddings.image_embeddings", V, G)
    linear(found, "v_embeddings.image_location_embeddings", V, 5)
    norm(found, "v_embeddings.LayerNorm", V)
    for layer in range(2):
        bert_layer(found, f"encoder.layer.{layer}", D, 128)
    bert_layer(found, "encoder.v_layer.0", V, V)
    for number, width in (("1", V), ("2", D)):
        for part in ("query", "key", "value"):
            linear(found, f"encoder.c_layer.0.biattention.{part}{number}", E, width)
        linear(found, f"encoder.c_layer.0.biOutput.dense{number}", width, E)
        linear(found, f"encoder.c_layer.0.biOutput.q_dense{number}", width, E)  # which nothing uses
        norm(found, f"encoder.c_layer.0.biOutput.LayerNorm{number}", width)
    for stream, width, hidden in (("v", V, V), ("t", D, 128)):
        linear(found, f"encoder.c_layer.0.{stream}_intermediate.dense", hidden, width)
        linear(found, f"encoder.c_layer.0.{stream}_output.dense", width, hidden)
        norm(found, f"encoder.c_layer.0.{stream}_output.LayerNorm", width)
        linear(found, f"{stream}_pooler.dense", E, width)
    return found


class Reference:
    """The published forward pass (Lu et al. 2019) by the names of its weights."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-12)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int) -> Tensor:
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5 + (1 - mask[:, None, None]) * -10000
        return (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)

    def feed_forward(self, inside: str, outside: str, x: Tensor) -> Tensor:
        hidden = F.gelu(self.linear(f"{inside}.dense", x))
        return self.norm(f"{outside}.LayerNorm", self.linear(f"{outside}.dense", hidden) + x)

    def layer(self, name: str, x: Tensor, mask: Tensor, heads: int) -> Tensor:
        q, k, v = (self.linear(f"{name}.attention.self.{part}", x) for part in ("query", "key", "value"))
        read = self.linear(f"{name}.attention.output.dense", self.attend(q, k, v, mask, heads))
        x = self.norm(f"{name}.attention.output.LayerNorm", read + x)
        return self.feed_forward(f"{name}.intermediate", f"{name}.output", x)

    def connection(self, image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        at = "encoder.c_layer.0"
        q1, k1, v1 = (self.linear(f"{at}.biattention.{part}1", image) for part in ("query", "key", "value"))
        q2, k2, v2 = (self.linear(f"{at}.biattention.{part}2", text) for part in ("query", "key", "value"))
        of_image = self.attend(q2, k1, v1, image_mask, HEADS)  # what words read
        of_text = self.attend(q1, k2, v2, text_mask, HEADS)
        image = self.norm(f"{at}.biOutput.LayerNorm1", self.linear(f"{at}.biOutput.dense1", of_text) + image)
        text = self.norm(f"{at}.biOutput.LayerNorm2", self.linear(f"{at}.biOutput.dense2", of_image) + text)
        return (
            self.feed_forward(f"{at}.v_intermediate", f"{at}.v_output", image),
            self.feed_forward(f"{at}.t_intermediate", f"{at}.t_output", text),
        )

    def pooled(self, ids: Tensor, text_mask: Tensor, image: Tensor, places: Tensor, image_mask: Tensor) -> Any:
        table = {
            name: self.weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
        }
        text = table["word"][ids] + table["position"][: ids.shape[1]] + table["token_type"][0]
        text = self.norm("embeddings.LayerNorm", text)
        image = self.linear("v_embeddings.image_embeddings", image)
        image = self.norm(
            "v_embeddings.LayerNorm", image + self.linear("v_embeddings.image_location_embeddings", places)
        )
        text = self.layer("encoder.layer.0", text, text_mask, 2)  # up to the first connection
        image, text = self.connection(image, image_mask, text, text_mask)
        image = self.layer("encoder.v_layer.0", image, image_mask, HEADS)
        text = self.layer("encoder.layer.1", text, text_mask, 2)
        return self.linear("t_pooler.dense", text[:, 0]).relu(), self.linear("v_pooler.dense", image[:, 0]).relu()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Folders of a small BERT and a small LXMERT, as an installed model would be."""
    from transformers import AutoModel

    found = {}
    for kind in ("bert", "lxmert"):
        torch.manual_seed(0)
        found[kind] = str(tmp_path_factory.mktemp(kind))
        AutoModel.from_config(ARCHITECTURES[f"tiny-{kind}"]()).save_pretrained(found[kind])
    return found


def model(text_encoder: str, weights: object, **given) -> Any:
    values = {"text_encoder": text_encoder, "weights": str(weights), **DETECTOR, **given}
    if given.get("architecture") == "lxmert":
        del values["co_width"]
    config = Config.model_validate(values)
    ports = {
        name: Port(modality=name, input=input, width=input.width or D, encoder=None)
        for name, input in inputs(config).items()
    }
    return build(config, TASK, ports).eval()


def given_batch():
    from test_vilbert import batch
    from test_vilbert_regions import regions

    found = regions(num=3)[..., 48 - G :]  # G features, a box and a one
    found[1, 2] = 0
    return batch(image_features=found)


@pytest.mark.parametrize("wrapped", ["bert.", "module.bert.", "model.bert."])
@pytest.mark.filterwarnings("ignore:model.weights")
def test_streams_are_those_of_the_published_forward_pass(wrapped, tiny, tmp_path):
    weights, given = published(), given_batch()
    named: Any = {f"{wrapped}{name}": value for name, value in weights.items()}
    torch.save({"model": named} if wrapped == "model.bert." else named, tmp_path / "w.bin")
    net = model(tiny["bert"], tmp_path / "w.bin")
    found = given.image_features
    features, boxes, there = found[..., :G], found[..., G : G + 4], found[..., -1]
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    places = torch.cat([boxes, area.unsqueeze(2)], dim=2)
    mean = features.sum(dim=1, keepdim=True) / there.sum(dim=1)[:, None, None]
    whole = torch.tensor([0, 0, 1, 1, 1.0]).expand(2, 1, 5)
    with torch.no_grad():
        text, image = Reference(weights).pooled(
            given.input_ids, given.attention_mask, torch.cat([mean, features], dim=1),
            torch.cat([whole, places], dim=1), torch.cat([torch.ones(2, 1), there], dim=1),
        )  # fmt: skip
        out = net(given).features
    torch.testing.assert_close(out["text"], text, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out["image"], image, rtol=1e-4, atol=1e-5)


def test_what_the_file_has_beside_it_is_named(tiny, tmp_path):
    torch.save({f"bert.{name}": value for name, value in published().items()}, tmp_path / "w.bin")
    with pytest.warns(
        UserWarning, match=r"w\.bin: encoder\.c_layer\.0\.biOutput\.q_dense1\.bias, .* and 1 more are not"
    ):
        model(tiny["bert"], tmp_path / "w.bin")


def test_old_names_of_norms(tiny, tmp_path):
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): value for name, value in published().items()}
    old = {name.replace("LayerNorm.bias", "LayerNorm.beta"): value for name, value in old.items()}
    torch.save(old, tmp_path / "w", _use_new_zipfile_serialization=False)  # as torch wrote before 1.6
    with pytest.warns(UserWarning, match="and 1 more are not used"):
        net = model(tiny["bert"], tmp_path / "w")
    assert net.region_norm[0].bias.equal(published()["v_embeddings.LayerNorm.bias"])


def test_lxmerts_own_file(tiny, tmp_path):
    from transformers import AutoModel

    torch.manual_seed(5)
    other = AutoModel.from_config(ARCHITECTURES["tiny-lxmert"]()).eval()
    torch.save({f"module.bert.{name}": value for name, value in other.state_dict().items()}, tmp_path / "a_LXRT.pth")
    with pytest.warns(UserWarning, match="encoder.x_layers.* are not used"):  # the last one's image side
        net = model(tiny["lxmert"], tmp_path / "a_LXRT.pth", architecture="lxmert", region_width=48)
    from test_vilbert import batch
    from test_vilbert_regions import regions

    found = regions(num=3)
    given = batch(image_features=found)
    with torch.no_grad():
        expected = other(
            input_ids=given.input_ids, attention_mask=given.attention_mask, visual_feats=found[..., :48],
            visual_pos=found[..., 48:52],
        )  # fmt: skip
        torch.testing.assert_close(net.text_stream(given), expected.language_output, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net(given).features["joint"], expected.pooled_output, rtol=1e-4, atol=1e-5)


class Runs:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


def test_files_that_do_not_fit_are_refused_in_a_line(tiny, tmp_path):
    weights = published()
    torch.save({f"bert.{name}": value for name, value in weights.items()}, tmp_path / "whole")
    torch.save({name: value for name, value in weights.items() if "v_layer" not in name}, tmp_path / "lacks")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:5000])
    (tmp_path / "runs").write_bytes(pickle.dumps({"a": Runs()}))
    torch.save([1, 2], tmp_path / "list")
    for name, message in {
        "none": "no such file", "cut": "cannot be read|holds more than tensors", "runs": "holds more than tensors",
        "list": "holds no named tensors",
        "lacks": r"lacks 16 of 95 tensors: encoder\.v_layer\.0\.attention\.output\.LayerNorm\.bias, .* and 13 more;",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"model.weights: .*{message}") as error:
            model(tiny["bert"], tmp_path / name)
        assert "\n" not in str(error.value)
    for device in ("cpu", "meta"):  # before it starts a model is built for its size alone
        with torch.device(device), pytest.raises(ValueError, match=r"of a model of other sizes: .*\(88, 12\) there"):
            model(tiny["bert"], tmp_path / "whole", region_width=2 * G)


def test_what_does_not_go_with_weights_is_refused(tiny):
    with pytest.raises(ValueError, match="model.freeze_text_layers: 1, but all that model.weights fills trains"):
        inputs(Config.model_validate({"text_encoder": tiny["bert"], "weights": "w", "freeze_text_layers": 1}))
    with pytest.raises(ValueError, match="tiny-bert has no vocabulary, which model.weights were trained with"):
        inputs(Config.model_validate({"text_encoder": "tiny-bert", "weights": "w"}))


def test_a_trained_model_needs_the_file_no_more(tiny):
    with without_published():
        model(tiny["bert"], "/no/such/file")
