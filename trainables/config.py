"""TrialConfig: everything one trial needs to know, typed and frozen, without a tensor in sight.

A search space proposes flat *params* (``{"optim.lr": 3e-5, "uda.n": 4}``); :meth:`TrialConfig.from_params`
is the one place where they become this object. Nothing after it reads a dict of hyperparameters.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator


class Section(BaseModel):
    """Frozen, strict, unknown keys refused: every section of a config, the families' own included."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


class OptimConfig(Section):
    """Optimiser, schedule and clipping (AdamW; METHODS 4.1)."""

    lr: float = Field(5e-4, gt=0, le=10)  # of everything that has no multiplier below
    text_lr_mult: float = Field(1.0, gt=0, le=1000)  # the text encoder's lr is lr * this
    image_lr_mult: float = Field(1.0, gt=0, le=1000)  # the image encoder's lr is lr * this
    head_lr_mult: float = Field(1.0, gt=0, le=1000)  # whatever is in no encoder: fusion and head
    layer_decay: float = Field(1.0, gt=0, le=1)  # lr of an encoder's layer: times this for each layer above it
    weight_decay: float = Field(1e-2, ge=0, le=1)  # never on biases and norms
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    schedule: Literal["linear", "cosine", "constant", "plateau"] = "linear"
    warmup_ratio: float = Field(0.1, ge=0, le=0.9)  # of all optimiser steps
    plateau_factor: float = Field(0.5, gt=0, lt=1)  # schedule: plateau
    plateau_patience: int = Field(2, ge=0)  # epochs; must stay below `patience`, or it never acts
    grad_clip: float | None = Field(1.0, gt=0)  # global norm; null switches clipping off


class UdaConfig(Section):
    """Unsupervised data augmentation as a regulariser (Monter-Aldana et al. 2023, eqs. 6-11).

    Both views go through the model as one concatenated batch of twice the rows: BatchNorm (EfficientNet when
    unlocked, ``tirg_norm: batch``) normalises over both and its running statistics see both.
    ``mode: aug`` doubles the training rows instead and leaves lambda, n, k and the divergence aside.
    ``copies: fresh`` makes the copies while training: what locked encoders give for an augmented modality is no
    constant then and is computed again each time.
    """

    mode: Literal["none", "aug", "fixed", "dynamic"] = "none"  # aug: the copies are more training data, no L_c
    lam: float = Field(1.0, ge=0, le=1000)  # lambda
    n: int = Field(5, ge=0, le=100)  # exponent of q_V
    k: int = Field(1, ge=0, le=100)  # exponent of q_T
    views: Literal["both", "text", "image"] = "both"  # which modalities are augmented
    divergence: Literal["auto", "kl_softmax", "kl_bernoulli", "js_softmax", "js_bernoulli", "mse_prob"] = "auto"
    temperature: float = Field(1.0, gt=0, le=10)  # of the clean target, below 1 sharpens it; any divergence
    # Leave out targets whose largest probability is not above this: samples with a softmax, (sample, class)
    # pairs with Bernoulli and mse_prob on multi-label tasks. null keeps all.
    confidence: float | None = Field(None, ge=0, lt=1)
    warmup_lambda: Literal["base", "zero"] = "base"  # lambda while fewer than two epochs are known
    lambda_max: float | None = Field(None, gt=0)
    copies: Literal["static", "fresh"] = "static"  # one copy a sample made once, or another one each epoch
    text_replace: float = Field(0.1, gt=0, le=1)  # share of words replaced by their nearest neighbour
    vectors: str | None = None  # word2vec or GloVe text file; None: the text encoder's own input embeddings
    randaug_ops: int = Field(2, ge=1, le=10)
    randaug_magnitude: int = Field(9, ge=0, le=30)


class LossConfig(Section):
    label_smoothing: float = Field(0.0, ge=0, lt=1)  # single-label tasks
    pos_weight: bool = True  # multi-label: positives of class c count N / n_c times
    pos_weight_cap: float = Field(100.0, ge=1)
    class_weight: bool = False  # single-label: class c counts N / (C n_c) times


class TrialConfig(Section):
    """One configuration. ``model`` is checked against the family's own ``Config``."""

    family: str
    dataset: str
    target: str | None = None  # which labels of the dataset; None takes its first
    data_dir: str | None = None  # None for embedded datasets
    seed: int = Field(1, ge=0, lt=2**32)
    epochs: int = Field(10, ge=1, le=100_000)  # at most
    patience: int | None = Field(None, ge=1)  # epochs without a better objective before an early stop
    objective: str = "val_accuracy"  # what "best epoch" and patience look at
    batch_size: int = Field(32, ge=1)  # samples an optimiser step, over all ranks
    micro_batch_size: int | None = Field(None, ge=1)  # samples a forward and rank; the rest is accumulated
    eval_batch_size: int = Field(256, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    max_text_len: int = Field(128, ge=2, le=8192)  # tokens, specials included
    image_size: int = Field(128, ge=8, le=2048)  # pixels a side, what the image encoder sees
    max_train_rows: int | None = Field(None, ge=1)  # train on so many random rows, the same for every seed
    compile: bool = False  # torch.compile the model: pays off in long trainings only
    gradient_checkpointing: bool = False  # recompute the layers of trained encoders: less memory, a third slower
    cache_features: bool = True  # compute what locked encoders give once, instead of every epoch
    optim: OptimConfig = OptimConfig()  # pyright: ignore[reportCallIssue] (does not see Field's defaults)
    uda: UdaConfig = UdaConfig()  # pyright: ignore[reportCallIssue]
    loss: LossConfig = LossConfig()  # pyright: ignore[reportCallIssue]
    model: Any = Field(default_factory=dict)  # the family's Config after validation

    @field_validator("data_dir", "target", mode="before")
    @classmethod
    def _blank_is_none(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("family")
    @classmethod
    def _family_exists(cls, value: str) -> str:
        from trainables.families import FAMILIES

        if value not in FAMILIES:
            raise ValueError(f"'{value}' is unknown. Known: {', '.join(sorted(FAMILIES))}")
        return value

    @field_validator("model")
    @classmethod
    def _model_fits_the_family(cls, value: Any, info: ValidationInfo) -> Any:
        if "family" not in info.data:
            return value  # the family is refused already
        from trainables.families import family_config  # imports torch: only when a config is built

        family = info.data["family"]
        expected = family_config(family)
        if isinstance(value, dict):
            return expected(**value)  # its errors arrive as ("model", ...)
        if not isinstance(value, expected):
            raise ValueError(f"a {type(value).__name__} is no Config of family '{family}'")
        return value

    @model_validator(mode="after")
    def _sections_fit(self) -> TrialConfig:
        optim = self.optim
        if optim.schedule == "plateau" and self.patience is not None and optim.plateau_patience >= self.patience:
            raise ValueError(
                f"optim.plateau_patience: {optim.plateau_patience} must be below patience ({self.patience}), "
                "or training ends before the lr is ever reduced"
            )
        return self

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> TrialConfig:
        """The config that flat, dotted params describe.

        Args:
            params: e.g. ``{"family": "text", "dataset": "openclipart", "optim.lr": 3e-5}``.

        Raises:
            ValueError: an unknown key, a wrong type or a value out of range (pydantic's
                ValidationError, whose ``errors()`` name each key), or a key inside another's value.
        """
        nested: dict[str, Any] = {}
        for key, value in params.items():
            *sections, leaf = key.split(".")
            target = nested
            for section in sections:
                target = target.setdefault(section, {})
                if not isinstance(target, dict):
                    raise ValueError(f"params: '{key}' lies inside '{section}', which was given a value of its own")
            if isinstance(target.get(leaf), dict):
                raise ValueError(f"params: '{key}' was given a value, and so were keys inside it")
            target[leaf] = dict(value) if isinstance(value, dict) else value
        return cls(**nested)

    def to_dict(self) -> dict[str, Any]:
        """A plain nested dict that round-trips: ``TrialConfig(**config.to_dict()) == config``."""
        return self.model_dump()
