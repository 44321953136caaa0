import pytest
import torch
from cases import made
from small import IMAGE, TEXT
from torch.nn import functional as F

from trainables.config import OptimConfig
from trainables.data.open import open_data
from trainables.encoders.tokenizers import load_tokenizer
from trainables.encoders.weights import load_model
from trainables.families.clip import Config, inputs
from trainables.layers.matching import matching_recalls
from trainables.loop import train
from trainables.optim import build_optimizer
from trainables.trained import load_trained

TINY = {"encoder": "tiny-clip"}
VARIANTS = [
    {},
    {"mode": "mlp", "interaction": "concat+mul+absdiff"},
    {"mode": "finetune"},
    {"mode": "finetune", "contrastive_weight": 0.5, "lock_image": True},
    {"mode": "contrastive"},
    {"mode": "contrastive", "hard_negatives": 0.5, "same_class_negatives": 2.0},
    {"mode": "zero_shot"},
]
ON_RANKS = {"mode": "finetune", "contrastive_weight": 0.5, "same_class_negatives": 2.0}
RECOMPUTED = {"mode": "finetune"}
REFUSED = [
    ({"mode": "contrastive"}, "number", "contrastive compares classes with each other, this task is regression"),
    ({"mode": "contrastive"}, "many", "contrastive compares classes with each other, this task is multilabel"),
    ({"mode": "zero_shot"}, "number", "zero_shot compares classes with each other, this task is regression"),
    (
        {"mode": "finetune", "contrastive_weight": 1.0, "same_class_negatives": 2.0},
        "number",
        "same_class_negatives: a regression has no classes that samples could share",
    ),
    ({"mode": "zero_shot"}, "many", "zero_shot compares classes with each other, this task is multilabel"),
]
ONLY_TRAINS = [({"mode": "contrastive"}, "text")]
TOWERS = {
    "text_config": {**TEXT, "max_position_embeddings": 77, "bos_token_id": 2, "eos_token_id": 3},
    "vision_config": IMAGE,
}
STAND_INS = {"openai/clip-vit-base-patch32": ("CLIP", {**TOWERS, "projection_dim": 16})}


def by_transformers(pixel_values, **text):
    """What CLIPModel gives; tiny-clip's mean and deviation are 0.5."""
    with torch.no_grad():
        clip = load_model("tiny-clip", seed=1)  # the trials' of this suite
        return clip(pixel_values=pixel_values / 127.5 - 1, interpolate_pos_encoding=True, **text)


def test_zero_shot_compares_images_with_the_prompts_of_the_classes(toy):
    """exp(logit_scale) cos(image, prompt), as published; the text of a sample is not read."""
    net, data, batch = made(toy, "clip", {"mode": "zero_shot", "prompt": "red {} square"})
    prompts = [f"red {name} square" for name in data.task.classes]
    tokens = load_tokenizer("tiny-clip", texts=prompts)(prompts, padding=True, return_tensors="pt")
    given = batch([0, 1, 2, 4])
    expected = by_transformers(
        given.pixel_values, input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
    ).logits_per_image
    torch.testing.assert_close(net.eval()(given).logits.detach(), expected, rtol=1e-4, atol=1e-4)
    assert [name for name, parameter in net.named_parameters() if parameter.requires_grad] == ["log_scale"]


@pytest.mark.parametrize("interaction", ["concat", "concat+mul+absdiff"])
def test_the_head_sees_both_embeddings_at_the_length_of_their_width(toy, interaction):
    net, _, batch = made(toy, "clip", {"interaction": interaction})
    given = batch([0, 1, 2])
    expected = by_transformers(given.pixel_values, input_ids=given.input_ids, attention_mask=given.attention_mask)
    image, text = (value * 48**0.5 for value in (expected.image_embeds, expected.text_embeds))  # unit vectors there
    parts = [image, text, image * text, (image - text).abs()][: 2 if interaction == "concat" else 4]
    out = net.eval()(given)
    torch.testing.assert_close(out.features["joint"], torch.cat(parts, dim=1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out.logits, net.head(out.features["joint"]))


@pytest.mark.parametrize("mode", ["contrastive", "finetune"])
def test_images_and_texts_are_told_apart_as_transformers_clip_does(toy, mode):
    weight = {"contrastive_weight": 0.5} if mode == "finetune" else {}
    net, _, batch = made(toy, "clip", {"mode": mode, **weight})
    given = batch([0, 1, 2, 3])
    expected = by_transformers(
        given.pixel_values, input_ids=given.input_ids, attention_mask=given.attention_mask, return_loss=True
    ).loss
    out = net.train()(given)
    loss = out.losses["contrastive"].mean().detach()
    torch.testing.assert_close(loss, expected * (0.5 if weight else 1.0), rtol=1e-4, atol=1e-5)
    assert out.supervised_weight == (1.0 if weight else 0.0)
    assert net.eval()(given).losses == {}  # a loss over a split would hang on how it is cut into batches


def test_classes_are_told_by_the_text_tower_as_it_is_now(toy):
    """What is computed for the prompts is kept until the tower changes: by a step, or by other weights."""
    net, data, batch = made(toy, "clip", {"mode": "contrastive", "prompt": "red {} square"})
    prompts = [f"red {name} square" for name in data.task.classes]
    tokens = load_tokenizer("tiny-clip", texts=prompts)(prompts, padding=True, return_tensors="pt")
    given, seen = batch([0, 1, 2, 4]), []

    def check():
        with torch.no_grad():
            _, class_CD = net.text.encoder(tokens["input_ids"], tokens["attention_mask"])
            image_BD = F.normalize(net.image(given), dim=1)
            expected = net.log_scale.exp() * image_BD @ F.normalize(class_CD, dim=1).T
        for mode in (False, True):
            with torch.inference_mode(not mode):
                logits = net.train(mode)(given).logits.detach()
            torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
        seen.append(expected)

    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = build_optimizer(net.train(), OptimConfig.model_validate({"lr": 1e-2}))
    check()
    for _ in range(2):
        optimizer.zero_grad()
        net(given).losses["contrastive"].mean().backward()
        optimizer.step()
        check()
    with torch.inference_mode():
        net.eval()(given)
        net.load_state_dict(before)
        torch.testing.assert_close(net(given).logits, seen[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(seen[0], seen[1], atol=1e-3)


def test_a_locked_image_tower_learns_nothing_while_the_texts_do(toy):
    net, _, batch = made(toy, "clip", {"mode": "contrastive", "lock_image": True})
    net.train()(batch([0, 1, 2, 3])).losses["contrastive"].mean().backward()
    learnt = {
        name.split(".")[0] for name, value in net.named_parameters() if value.grad is not None and value.grad.any()
    }
    assert learnt == {"text", "log_scale"}


def test_the_contrastive_loss_belongs_to_towers_that_train():
    for mode in ("linear", "contrastive"):
        expected = f"contrastive_weight: belongs to mode: 'finetune', and mode is '{mode}' here"
        with pytest.raises(ValueError, match=expected):
            Config.model_validate({"mode": mode, "contrastive_weight": 1.0})


def test_a_prompt_has_one_place_for_the_class():
    for prompt in ("a photo", "{} and {}"):
        with pytest.raises(ValueError, match=r"model.prompt: .* must have \{\} once, where the class goes"):
            inputs(Config.model_validate({"mode": "zero_shot", "prompt": prompt}))


def test_hard_negatives_belong_to_a_loss_that_has_a_weight():
    with pytest.raises(ValueError, match="hard_negatives: is of the contrastive loss, whose contrastive_weight is 0"):
        inputs(Config.model_validate({"mode": "finetune", "hard_negatives": 0.5}))
    with pytest.raises(ValueError, match="same_class_negatives: is of the contrastive loss, whose contrastive_weight"):
        inputs(Config.model_validate({"mode": "finetune", "same_class_negatives": 2.0}))


@pytest.mark.slow
def test_what_a_model_says_of_a_split_is_an_objective_if_it_says_it(toy, tmp_path):
    """As the features of the split give it; of a model that compares nothing it is refused."""
    objective = "val_text_to_image_recall_at_5"
    config = toy("clip", model={"mode": "contrastive"}, objective=objective, epochs=1)
    (row,) = train(config, folder=tmp_path).reports
    trained, data = load_trained(tmp_path), open_data(config)
    features = trained.forward(data.batch(data.rows["val"], data.clean)).features
    expected = matching_recalls(features["image"], features["text"])
    assert {name: row[f"val_{name}"] for name in expected} == pytest.approx(expected) and len(expected) == 7
    assert "train_accuracy" in row
    for model in ({"mode": "zero_shot"}, {}):
        other = toy("clip" if model else "mvae", model=model, objective=objective)
        with pytest.raises(ValueError, match="objective 'val_text_to_image_recall_at_5': this '.*' does not compare"):
            train(other, folder=tmp_path / "other")
