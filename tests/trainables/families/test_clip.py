import pytest
import torch
from cases import made
from small import IMAGE, TEXT

from trainables.encoders.tokenizers import load_tokenizer
from trainables.encoders.weights import load_model
from trainables.families.clip import Config, inputs

TINY = {"encoder": "tiny-clip"}
VARIANTS = [
    {},
    {"mode": "mlp", "interaction": "concat+mul+absdiff"},
    {"mode": "finetune"},
    {"mode": "zero_shot"},
]
ON_RANKS = RECOMPUTED = {"mode": "finetune"}
REFUSED = [
    ({"mode": "zero_shot"}, "number", "zero_shot compares classes with each other, this task is regression"),
    ({"mode": "zero_shot"}, "many", "zero_shot compares classes with each other, this task is multilabel"),
]
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


def test_a_prompt_has_one_place_for_the_class():
    for prompt in ("a photo", "{} and {}"):
        with pytest.raises(ValueError, match=r"model.prompt: .* must have \{\} once, where the class goes"):
            inputs(Config.model_validate({"prompt": prompt}))
