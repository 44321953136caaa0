import numpy as np
import torch
from cases import made

FREE = {"lock_text": False, "lock_image": False}
TINY = {"text_encoder": "tiny-bert", "image_encoder": "tiny-cnn"}
VARIANTS = [
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
]
BY_HEART = {"kind": "late"}
ON_RANKS = {"kind": "intermediate", "hidden": 32, "modalities": "text+image+numeric+categorical+graph"}
RECOMPUTED = FREE
REFUSED = [({"merge": "prob_mean"}, "number", "'prob_mean' needs class probabilities, this task is a regression")]


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
