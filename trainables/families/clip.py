"""CLIP (Radford et al. 2021): both towers of one model, in its joint space.

zero_shot: logits = exp(logit_scale) cos(image, prompt of the class); the text of a sample is not read. Only the
temperature trains, which never changes the predicted class. linear, mlp: a head over [image; text] of locked towers;
finetune: the same with both towers trained (use a low lr and ``optim.layer_decay``). The head sees each embedding at
length sqrt(D) instead of 1, so that its features have the scale, and its lr the range, of other families.
See docs/methods.md#clip.

Tensor letters: B batch, C classes, D width of the joint space.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.batch import Batch, ModelOutput
from trainables.config import Section
from trainables.encoders.inputs import Input
from trainables.encoders.port import Port
from trainables.encoders.text import load_text_encoder
from trainables.encoders.tokenizers import load_tokenizer
from trainables.encoders.weights import load_config, load_model
from trainables.layers.mlp import mlp
from trainables.task import Task

MODALITIES = ("text", "image")
LOSS_TERMS = ()
_MAX_LOG_SCALE = math.log(100.0)


class Config(Section):
    encoder: str = "openai/clip-vit-base-patch32"
    """A CLIP: a local folder, a Hugging Face name, or random-clip-b32, the same without weights."""
    mode: Literal["zero_shot", "linear", "mlp", "finetune"] = "linear"
    """zero_shot: prompts of the classes; linear, mlp: a head on locked towers; finetune: mlp on towers that train."""
    interaction: Literal["concat", "concat+mul+absdiff"] = "concat"
    """What the head sees of image v and text t: [v; t], or [v; t; v * t; |v - t|]; not of mode zero_shot."""
    prompt: str = "a photo of {}."
    """mode: zero_shot compares images with this text, {} being the class's name."""
    hidden: int = Field(512, ge=1)
    """modes mlp and finetune: width of the head's hidden layers."""
    depth: int = Field(1, ge=0, le=8)
    """modes mlp and finetune: number of the head's hidden layers."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the head's hidden features dropped in training."""


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input.

    Raises:
        ValueError: the prompt has no place for the class.
    """
    if config.prompt.count("{}") != 1:
        raise ValueError(f"model.prompt: '{config.prompt}' must have {{}} once, where the class goes")
    tower = Input(encoder=config.encoder, is_locked=config.mode != "finetune", output="projected")
    return {"image": tower} if config.mode == "zero_shot" else {"text": tower, "image": tower}


def droppable(config: Config) -> tuple[str, ...]:
    """Modalities that may be missing: text in zero-shot, where it is not read."""
    return ("text",) if config.mode == "zero_shot" else ()


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model, on the ports that ``inputs`` asked for.

    Raises:
        ValueError: zero-shot classification of a task without one class a sample.
    """
    if config.mode == "zero_shot":
        if task.kind != "multiclass":
            raise ValueError(f"model.mode: zero_shot compares classes with each other, this task is {task.kind}")
        image = ports["image"]
        log_scale = load_model(config.encoder, seed=image.input.seed).logit_scale.detach()
        return _ZeroShot(_class_embeddings(config, task, seed=image.input.seed), log_scale, image)
    return _Head(config, task, ports)


def _class_embeddings(config: Config, task: Task, *, seed: int) -> Tensor:
    """Unit vectors (C, D) of the prompts of the classes."""
    if torch.get_default_device().type == "meta":  # only sizes are wanted
        return torch.empty(len(task.classes), load_config(config.encoder).projection_dim)
    prompts = [config.prompt.format(name.replace("_", " ")) for name in task.classes]
    encoder = load_text_encoder(config.encoder, is_projected=True, seed=seed).eval()
    tokenizer = load_tokenizer(config.encoder, texts=prompts)
    encoded = tokenizer(prompts, padding=True, truncation=True, max_length=77, return_tensors="pt")
    with torch.no_grad():
        _, class_CD = encoder(encoded["input_ids"], encoded["attention_mask"])
    return F.normalize(class_CD, dim=1)


class _ZeroShot(nn.Module):
    class_CD: Tensor

    def __init__(self, class_CD: Tensor, log_scale: Tensor, image: Port) -> None:
        super().__init__()
        self.image = image
        self.register_buffer("class_CD", class_CD)
        self.log_scale = nn.Parameter(log_scale.clone())

    def forward(self, batch: Batch) -> ModelOutput:
        image_BD = F.normalize(self.image(batch), dim=1)
        scale = self.log_scale.clamp(max=_MAX_LOG_SCALE).exp()
        return ModelOutput(logits=scale * image_BD @ self.class_CD.T, features={"image": image_BD})


class _Head(nn.Module):
    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__()
        self.text, self.image = ports["text"], ports["image"]
        self.has_products = config.interaction != "concat"
        width = self.image.width * (4 if self.has_products else 2)
        depth = 0 if config.mode == "linear" else config.depth
        self.head = mlp(width, config.hidden, task.num_outputs, depth=depth, dropout=config.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        length = self.image.width**0.5
        image_BD = F.normalize(self.image(batch), dim=1) * length
        text_BD = F.normalize(self.text(batch), dim=1) * length
        parts = [image_BD, text_BD]
        if self.has_products:
            parts += [image_BD * text_BD, (image_BD - text_BD).abs()]
        joint = torch.cat(parts, dim=1)
        features = {"text": text_BD, "image": image_BD, "joint": joint}
        return ModelOutput(logits=self.head(joint), features=features)
