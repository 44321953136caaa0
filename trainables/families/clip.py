"""CLIP (Radford et al. 2021): both towers of one model, in its joint space.

zero_shot: logits = exp(logit_scale) cos(image, prompt of the class); the text of a sample is not read. Only the
temperature trains, which never changes the predicted class. linear, mlp: a head over [image; text] of locked towers;
finetune: the same with both towers trained (use a low lr and ``optim.layer_decay``), and with ``contrastive_weight``
the InfoNCE loss between images and their texts beside the classification's. contrastive: that loss alone trains the
towers, with ``lock_image`` the text's alone (LiT, Zhai et al. 2022), and classes are told by prompts as in zero_shot.
The head sees each embedding at length sqrt(D) instead of 1, so that its features have the scale, and its lr the range,
of other families. See docs/methods.md#clip.

Tensor letters: B batch, C classes, D width of the joint space.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BatchEncoding

from trainables.batch import Batch, ModelOutput
from trainables.config import Only, Section
from trainables.encoders.inputs import Input
from trainables.encoders.port import Port
from trainables.encoders.text import load_text_encoder
from trainables.encoders.tokenizers import load_tokenizer
from trainables.encoders.weights import load_config, load_model
from trainables.layers.across_ranks import sample_keys
from trainables.layers.contrastive import info_nce, text_keys
from trainables.layers.matching import matching_recalls
from trainables.layers.mlp import mlp
from trainables.task import Task

MODALITIES = ("text", "image")
LOSS_TERMS = UNLABELLED_TERMS = ("contrastive",)
_MAX_LOG_SCALE = math.log(100.0)


class Config(Section):
    encoder: str = "openai/clip-vit-base-patch32"
    """A CLIP: a local folder, a Hugging Face name, or random-clip-b32, the same without weights."""
    mode: Literal["zero_shot", "linear", "mlp", "finetune", "contrastive"] = "linear"
    """zero_shot: prompts of the classes; linear, mlp: a head on locked towers; finetune: mlp on towers that train;
    contrastive: towers that learn which text is which image's, and prompts."""
    contrastive_weight: Annotated[float, Only(mode="finetune")] = Field(0.0, ge=0)
    """mode: finetune: weight of the InfoNCE loss between images and texts beside the classification's."""
    hard_negatives: Annotated[float, Only(mode=("finetune", "contrastive"))] = Field(0.0, ge=0, le=10)
    """InfoNCE: how much more the wrong pairs count that look right (the beta of Robinson et al. 2021); 0: all alike."""
    same_class_negatives: Annotated[float, Only(mode=("finetune", "contrastive"))] = Field(1.0, ge=1, le=100)
    """InfoNCE: how often a wrong pair counts whose samples share a class, as garments with another value of the same
    attribute or films of one genre do; 1: as any other."""
    lock_image: Annotated[bool, Only(mode=("finetune", "contrastive"))] = False
    """modes finetune and contrastive: the image tower never changes (LiT); what it gives is computed once."""
    interaction: Annotated[Literal["concat", "concat+mul+absdiff"], Only(mode=("linear", "mlp", "finetune"))] = "concat"
    """What the head sees of image v and text t: [v; t], or [v; t; v * t; |v - t|]; modes with a head."""
    prompt: Annotated[str, Only(mode=("zero_shot", "contrastive"))] = "a photo of {}."
    """modes zero_shot and contrastive compare images with this text, {} being the class's name."""
    hidden: Annotated[int, Only(mode=("mlp", "finetune"))] = Field(512, ge=1)
    """modes mlp and finetune: width of the head's hidden layers."""
    depth: Annotated[int, Only(mode=("mlp", "finetune"))] = Field(1, ge=0, le=8)
    """modes mlp and finetune: number of the head's hidden layers."""
    dropout: Annotated[float, Only(mode=("linear", "mlp", "finetune"))] = Field(0.1, ge=0, lt=1)
    """Share of the head's hidden features dropped in training."""


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input.

    Raises:
        ValueError: the prompt has no place for the class, or hard negatives of a loss that has no weight.
    """
    if config.mode == "finetune" and config.contrastive_weight == 0:
        for name, is_set in (
            ("hard_negatives", config.hard_negatives > 0),
            ("same_class_negatives", config.same_class_negatives > 1),
        ):
            if is_set:
                raise ValueError(f"model.{name}: is of the contrastive loss, whose contrastive_weight is 0 here")
    if config.prompt.count("{}") != 1:
        raise ValueError(f"model.prompt: '{config.prompt}' must have {{}} once, where the class goes")
    trains = config.mode in ("finetune", "contrastive")
    text = Input(encoder=config.encoder, is_locked=not trains, output="projected")
    image = replace(text, is_locked=config.lock_image or not trains)
    return {"image": image} if config.mode == "zero_shot" else {"text": text, "image": image}


def droppable(config: Config) -> tuple[str, ...]:
    """Modalities that may be missing: text where classes are told by prompts, and it is not read to tell them."""
    return ("text",) if config.mode in ("zero_shot", "contrastive") else ()


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model, on the ports that ``inputs`` asked for.

    Raises:
        ValueError: classification by prompts of a task without one class a sample, or wrong pairs by class of a task
            without classes.
    """
    if config.mode in ("zero_shot", "contrastive") and task.kind != "multiclass":
        raise ValueError(f"model.mode: {config.mode} compares classes with each other, this task is {task.kind}")
    if config.same_class_negatives > 1 and task.kind == "regression":
        raise ValueError("model.same_class_negatives: a regression has no classes that samples could share")
    if config.mode == "zero_shot":
        return _ZeroShot(config, task, ports["image"])
    return _Contrastive(config, task, ports) if config.mode == "contrastive" else _Head(config, task, ports)


def _prompts(config: Config, task: Task) -> BatchEncoding:
    """The tokens of the prompts of the classes, (C, L)."""
    prompts = [config.prompt.format(name.replace("_", " ")) for name in task.classes]
    tokenizer = load_tokenizer(config.encoder, texts=prompts)
    return tokenizer(prompts, padding=True, truncation=True, max_length=77, return_tensors="pt")


def _log_scale(config: Config, image: Port) -> nn.Parameter:
    """The encoder's own alpha, which trains on."""
    return nn.Parameter(load_model(config.encoder, seed=image.input.seed).logit_scale.detach().clone())


class _ZeroShot(nn.Module):
    class_CD: Tensor

    def __init__(self, config: Config, task: Task, image: Port) -> None:
        super().__init__()
        self.image = image
        self.register_buffer("class_CD", _class_embeddings(config, task, seed=image.input.seed))
        self.log_scale = _log_scale(config, image)

    def forward(self, batch: Batch) -> ModelOutput:
        image_BD = F.normalize(self.image(batch), dim=1)
        return ModelOutput(logits=_scale(self.log_scale) * image_BD @ self.class_CD.T, features={"image": image_BD})


def _class_embeddings(config: Config, task: Task, *, seed: int) -> Tensor:
    """Unit vectors (C, D) of the prompts of the classes."""
    if torch.get_default_device().type == "meta":  # only sizes are wanted
        return torch.empty(len(task.classes), load_config(config.encoder).projection_dim)
    encoder = load_text_encoder(config.encoder, is_projected=True, seed=seed).eval()
    prompts = _prompts(config, task)
    with torch.no_grad():
        _, class_CD = encoder(prompts["input_ids"], prompts["attention_mask"])
    return F.normalize(class_CD, dim=1)


def _scale(log_scale: Tensor) -> Tensor:
    """exp(alpha), at most 100 as published."""
    return log_scale.clamp(max=_MAX_LOG_SCALE).exp()


class _Towers(nn.Module):
    """Both towers; rows meet in :meth:`decide` alone, where they are compared with each other."""

    matching_recalls = staticmethod(matching_recalls)  # a model that has them can be searched by them

    def __init__(self, config: Config, ports: dict[str, Port]) -> None:
        super().__init__()
        self.text, self.image, self.droppable = ports["text"], ports["image"], droppable(config)
        self.hard_negatives, self.same_class = config.hard_negatives, config.same_class_negatives

    def report(self, joint_NE: Tensor) -> dict[str, float | int]:
        """What is told of a split: how well images and texts, side by side in ``joint_NE``, find each other."""
        return self.matching_recalls(*joint_NE.split(self.image.width, dim=1)[:2])

    def forward(self, batch: Batch) -> ModelOutput:
        return self.decide(self.encode(batch))

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Unit vectors (B, D) 'image' and, where there is one, 'text'; in training, too, which sample and which text a
        row is of, and its labels."""
        image_BD = F.normalize(self.image(batch), dim=1)
        has_text = batch.has("text") or "text" not in self.droppable
        text = {"text": F.normalize(self.text(batch), dim=1)} if has_text else {}
        if not self.training:
            return {**text, "image": image_BD}
        compared = {"key": sample_keys(batch.ids).to(image_BD.device), "labels": batch.labels}
        if batch.input_ids is not None and batch.attention_mask is not None:
            compared["text_key"] = text_keys(batch.input_ids, batch.attention_mask)
        return {**text, "image": image_BD, **compared}

    def contrast(self, features: dict[str, Tensor], log_scale: Tensor) -> Tensor:
        """(B,) the loss between images and texts, of what :meth:`encode` gave in training."""
        return info_nce(
            features["image"], features["text"], _scale(log_scale), features["key"],
            text_key_B=features.get("text_key"), labels=features["labels"], same_class=self.same_class,
            hardness=self.hard_negatives,
        )  # fmt: skip

    def decide(self, features: dict[str, Tensor]) -> ModelOutput:
        """What the rows come to together."""
        raise NotImplementedError


class _Contrastive(_Towers):
    input_ids: Tensor
    attention_mask: Tensor
    compares_rows = True
    _classes: tuple[list[Any], Tensor] | None = None

    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__(config, ports)
        self.log_scale = _log_scale(config, self.image)
        for name, value in _prompts(config, task).items():
            self.register_buffer(name, value, persistent=False)  # the config and the classes say them

    def decide(self, features: dict[str, Tensor]) -> ModelOutput:
        """From what :meth:`encode` gave: the classes' prompts through the text tower as it is now, and the loss."""
        unit = {name: features[name] for name in ("text", "image") if name in features}
        scale, losses = _scale(self.log_scale), {}
        if self.training:
            losses = {"contrastive": self.contrast(features, self.log_scale)}
        class_CD = self._class_embeddings()  # pyright: ignore (loses the signature in torch.compiler.disable)
        logits = scale * unit["image"] @ class_CD.T
        joint = {"joint": torch.cat([unit["image"], unit["text"]], dim=1)} if "text" in unit else {}
        return ModelOutput(logits=logits, features={**unit, **joint}, losses=losses, supervised_weight=0.0)

    def train(self, mode: bool = True) -> _Contrastive:
        self._classes = None
        return super().train(mode)

    @torch.compiler.disable
    def _class_embeddings(self) -> Tensor:
        """Unit vectors (C, D), without a gradient; kept while nothing trains and no other weights are loaded."""
        encoder: Any = self.text.encoder
        key = [self.input_ids.device, torch.is_inference_mode_enabled(), torch.is_autocast_enabled()]
        key += [parameter._version for parameter in encoder.parameters()]  # counts what loads them, not AdamW's steps
        if self.training or self._classes is None or self._classes[0] != key:
            with torch.no_grad():
                _, class_CD = encoder(self.input_ids, self.attention_mask)
            self._classes = key, F.normalize(class_CD, dim=1)
        return self._classes[1]


class _Head(_Towers):
    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__(config, ports)
        self.has_products, self.weight = config.interaction != "concat", config.contrastive_weight
        self.compares_rows = self.weight > 0
        width = self.image.width * (4 if self.has_products else 2)
        depth = 0 if config.mode == "linear" else config.depth
        self.head = mlp(width, config.hidden, task.num_outputs, depth=depth, dropout=config.dropout)
        if self.compares_rows:
            self.log_scale = _log_scale(config, self.image)

    def decide(self, features: dict[str, Tensor]) -> ModelOutput:
        """From what :meth:`encode` gave: the head, and the loss between images and texts."""
        losses, length = {}, self.image.width**0.5
        if self.compares_rows and self.training:
            losses["contrastive"] = self.weight * self.contrast(features, self.log_scale)
        image_BD, text_BD = features["image"] * length, features["text"] * length
        parts = [image_BD, text_BD]
        if self.has_products:
            parts += [image_BD * text_BD, (image_BD - text_BD).abs()]
        joint = torch.cat(parts, dim=1)
        features = {"text": text_BD, "image": image_BD, "joint": joint}
        return ModelOutput(logits=self.head(joint), features=features, losses=losses)
