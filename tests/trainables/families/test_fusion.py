import numpy as np
import pytest
import torch
from cases import made

from trainables.config import TrialConfig
from trainables.loop import train

FREE = {"lock_text": False, "lock_image": False}
TINY = {"text_encoder": "tiny-bert", "image_encoder": "tiny-cnn"}
VARIANTS = [
    {},
    FREE,
    {"norm": False, "depth": 2, "image_encoder": "tiny-vit", "lock_text": False},
    {"kind": "late"},
    {"kind": "late", "merge": "logit_weighted", **FREE},
    {"kind": "late", "merge": "prob_mean"},
    {"kind": "late", "merge": "concat", "modalities": "image+text"},
    {"kind": "late", "merge": "prob_weighted", "image_encoder": "tiny-vit"},
    {"kind": "late", "merge": "logit_weighted", "modalities": "text+image+numeric+categorical+graph"},
    {"modalities": "text+image+numeric+categorical+graph", **FREE},
    {"modalities": "numeric"},
    {"kind": "gmu"},
    {"kind": "intermediate", "hidden": 32},
    {"kind": "intermediate", "hidden": 32, "fuse_layer": 1, "image_encoder": "tiny-vit", **FREE},
    {"kind": "intermediate", "hidden": 32, "modalities": "text+image+numeric+categorical+graph"},
    {"kind": "multilevel", "blend": "equal", "modalities": "text+image+numeric"},
    {"kind": "late", "merge": "concat", "blend": "ogr", **FREE},
    {"metadata": "text"},
    {"kind": "late", "metadata": "mlp", "modalities": "text"},
    {"kind": "intermediate", "hidden": 32, "metadata": "tokens", **FREE},
]
BY_HEART = {"kind": "late"}
ON_RANKS = {"kind": "intermediate", "blend": "ogr", "hidden": 32, "modalities": "text+image+numeric+categorical+graph"}
RECOMPUTED = FREE
REFUSED = [
    ({"merge": merge}, "number", f"'{merge}' needs class probabilities, this task is a regression")
    for merge in ("prob_mean", "prob_weighted")
]


def test_late_fusion_merges_two_heads(toy):
    outs = {}
    for merge in ("logit_mean", "logit_weighted", "prob_mean", "prob_weighted"):
        for target in ("class", "many"):
            net, _, batch = made(toy, "fusion", {"kind": "late", "merge": merge}, target=target)
            net.eval()
            features = net.features(batch(range(6)))
            text, image = net.heads["text"](features["text"]), net.heads["image"](features["image"])
            outs[merge, target] = (net(batch(range(6))).logits, text, image, net)
    for target in ("class", "many"):
        logits, text, image, _ = outs["logit_mean", target]
        torch.testing.assert_close(logits, (text + image) / 2)
        logits, text, image, net = outs["logit_weighted", target]
        torch.testing.assert_close(logits, (text + image) / 2)  # equal weights to begin with
        with torch.no_grad():
            net.weights_M.copy_(torch.tensor([0.0, np.log(3.0)]))
    _, text, image, net = outs["logit_weighted", "class"]
    _, _, batch = made(toy, "fusion", {"kind": "late"})
    torch.testing.assert_close(net(batch(range(6))).logits, text / 4 + 3 * image / 4)
    for target, probability in (("class", lambda logits: logits.softmax(1)), ("many", torch.sigmoid)):
        logits, text, image, net = outs["prob_weighted", target]
        torch.testing.assert_close(probability(logits), (probability(text) + probability(image)) / 2)
        with torch.no_grad():
            net.weights_M.copy_(torch.tensor([0.0, np.log(3.0)]))
            found = probability(net(batch(range(6))).logits)
        torch.testing.assert_close(found, probability(text) / 4 + 3 * probability(image) / 4)
        alone = net(batch(range(6)).without("image")).logits
        torch.testing.assert_close(probability(alone), probability(text))  # the weights of what is there sum to 1
    logits, text, image, _ = outs["prob_mean", "class"]
    torch.testing.assert_close(logits.softmax(1), (text.softmax(1) + image.softmax(1)) / 2)
    logits, text, image, _ = outs["prob_mean", "many"]
    torch.testing.assert_close(logits.sigmoid(), (text.sigmoid() + image.sigmoid()) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["early", "late", "intermediate"])
@pytest.mark.parametrize("num_columns", [1, 2])
def test_numbers_keep_their_scale(tmp_path, kind, num_columns):
    """The class is the sign of the columns' sum, which LayerNorm over a row of one or two numbers would erase."""
    values = np.random.default_rng(0).normal(size=(400, num_columns))
    columns = [f"n{at}" for at in range(num_columns)]
    lines = [",".join([*columns, "y", "split"])]
    for at, row in enumerate(values):
        split = "train" if at < 300 else "val"
        lines.append(",".join([*(f"{value:.6f}" for value in row), "up" if row.sum() > 0 else "down", split]))
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "table.yaml").write_text(
        f"files: a.csv\nnumeric: [{', '.join(columns)}]\nlabels: {{y: {{column: y, kind: multiclass}}}}\nsplit: split\n"
    )
    model = {"kind": kind, "modalities": "numeric", "hidden": 32, "dropout": 0.0}
    config = TrialConfig.model_validate(
        {"family": "fusion", "dataset": "table", "data_dir": str(tmp_path), "epochs": 8, "model": model}
        | {"optim": {"lr": 0.01}}
    )
    reports = train(config, folder=tmp_path / "trial").reports
    assert max(row["val_accuracy"] for row in reports) > 0.95


@pytest.mark.parametrize("model", [{"blend": "equal"}, {"blend": "ogr"}, {"kind": "multilevel"}])
def test_one_modality_has_nothing_to_blend(model):
    with pytest.raises(ValueError, match="needs several modalities, modalities is 'text'"):
        TrialConfig.model_validate({"family": "fusion", "dataset": "toy", "model": {"modalities": "text", **model}})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"metadata": "text", "modalities": "image"}, "metadata: text needs a text, modalities is 'image'"),
        (
            {"metadata": "mlp", "modalities": "text+numeric"},
            "metadata: mlp is numeric too, which modalities names",
        ),
        ({"metadata": "mlp", "kind": "gmu"}, "metadata: mlp belongs to kind: early or late or multilevel, not gmu"),
        ({"metadata": "tokens"}, "metadata: tokens belongs to kind: intermediate, not early"),
        ({"metadata_fields": "told"}, "metadata_fields: belongs to metadata: .text., and metadata is"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        TrialConfig.model_validate({"family": "fusion", "dataset": "toy", "model": model})
