"""TrialConfig: everything one trial needs to know, typed and frozen, without a tensor in sight.

A search space proposes flat *params* (``{"optim.lr": 3e-5, "uda.n": 4}``); :meth:`TrialConfig.from_params`
is the one place where they become this object. Nothing after it reads a dict of hyperparameters.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from trainables.imagefit import ImageFit
from trainables.messages import show


class Only:
    """Marks a field that is read only where other fields of its section have certain values.

    Args:
        settings: field -> its value, or a tuple of values.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = {key: value if isinstance(value, tuple) else (value,) for key, value in settings.items()}

    def problem(self, name: str, section: BaseModel) -> str | None:
        """What is wrong with a value of ``name`` that is not its default."""
        for key, allowed in self.settings.items():
            found = getattr(section, key)
            if found not in allowed:
                return f"{name}: belongs to {key}: {' or '.join(map(show, allowed))}, and {key} is {show(found)} here"
        return None


class Section(BaseModel):
    """Frozen, strict, no infinite number, unknown keys refused: a section of a config, of a family, of a search file.

    The line under a field says what it is; `mmtune list keys`, docs/settings.md and the JSON Schema show it.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="after")
    def _ignores_nothing(self) -> Self:
        found = [
            mark.problem(name, self)
            for name, field in type(self).model_fields.items()
            for mark in field.metadata
            if isinstance(mark, Only) and getattr(self, name) != field.default
        ]
        problems = [problem for problem in found if problem is not None]
        if problems:
            raise ValueError("; ".join(problems))
        return self


class OptimConfig(Section):
    """Optimiser, schedule and clipping (AdamW)."""

    lr: float = Field(5e-4, gt=0, le=10)
    """Peak learning rate, of everything whose multiplier is 1."""
    text_lr_mult: float = Field(1.0, gt=0, le=1000)
    """The text encoder's learning rate is lr times this."""
    image_lr_mult: float = Field(1.0, gt=0, le=1000)
    """The image encoder's learning rate is lr times this."""
    head_lr_mult: float = Field(1.0, gt=0, le=1000)
    """The learning rate of whatever is in no encoder, fusion and head, is lr times this."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Learning rate of an encoder's layer: times this once for each layer above it."""
    weight_decay: float = Field(1e-2, ge=0, le=1)
    """AdamW's decoupled decay; never on biases and norms."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """AdamW's decay of the mean of the gradients."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """AdamW's decay of the mean of the squared gradients."""
    schedule: Literal["linear", "cosine", "constant", "plateau"] = "linear"
    """Learning rate after the warm-up: falls to 0 (linear, cosine), stays, or is reduced on a plateau."""
    warmup_ratio: float = Field(0.1, ge=0, le=0.9)
    """Share of all optimiser steps, W, in which the learning rate rises: 1/W of it in the first, all in the W-th."""
    plateau_factor: float = Field(0.5, gt=0, lt=1)
    """schedule: plateau multiplies the learning rate by this."""
    plateau_patience: int = Field(2, ge=0)
    """schedule: plateau waits so many epochs for a better objective; below patience, or it never acts."""
    grad_clip: float | None = Field(1.0, gt=0)
    """Largest global norm of the gradients; null clips nothing."""


class UdaConfig(Section):
    """Unsupervised data augmentation as a regulariser (Monter-Aldana et al. 2023, eqs. 6-11).

    Both views go through the model as one concatenated batch of twice the rows: BatchNorm (ResNet and
    EfficientNet when unlocked, ``tirg_norm: batch``) normalises over both and its running statistics see both, unless
    ``bn_eval_for_aug``.
    ``mode: aug`` doubles the training rows instead and leaves lambda, n, k and the divergence aside.
    ``copies: fresh`` makes the copies while training: what locked encoders give for an augmented modality is no
    constant then and is computed again each time.
    """

    mode: Literal["none", "aug", "fixed", "dynamic"] = "none"
    """aug: the copies are more training data, no consistency loss; fixed, dynamic: how lambda moves."""
    lam: float = Field(1.0, ge=0, le=1000)
    """Weight of the consistency loss: the paper's lambda; mode: dynamic starts from it."""
    n: int = Field(5, ge=0, le=100)
    """mode: dynamic: N, exponent of q_V, by which the validation loss grew."""
    k: int = Field(1, ge=0, le=100)
    """mode: dynamic: K, exponent of q_T, by which the metric on the training rows grew."""
    views: Literal["both", "text", "image"] = "both"
    """Which modalities are augmented."""
    divergence: Literal["auto", "kl_softmax", "kl_bernoulli", "js_softmax", "js_bernoulli", "mse_prob"] = "auto"
    """Distance of the two views' predictions; auto: KL of softmax, of Bernoulli on multi-label tasks."""
    temperature: float = Field(1.0, gt=0, le=10)
    """Of the clean view's prediction, the target, with any divergence; below 1 sharpens it."""
    confidence: float | None = Field(None, ge=0, lt=1)
    """Leave out targets whose largest probability is not above this; null keeps all.

    Samples are left out with a softmax, (sample, class) pairs with Bernoulli and mse_prob on multi-label tasks.
    """
    warmup_lambda: Literal["base", "zero"] = "base"
    """mode: dynamic: lambda while fewer than two epochs are known, lam or 0."""
    lambda_max: float | None = Field(None, gt=0)
    """mode: dynamic: lambda goes no higher; null is no limit."""
    bn_eval_for_aug: bool = False
    """modes fixed, dynamic: BatchNorm's statistics are of the clean rows; running ones normalise the copies."""
    copies: Literal["static", "fresh"] = "static"
    """One augmented copy a sample made once, or another one each epoch."""
    text_replace: float = Field(0.1, gt=0, le=1)
    """Share of words that are replaced by their nearest neighbour."""
    vectors: str | None = None
    """word2vec or GloVe text file that tells the nearest words; null: the text encoder's own input embeddings."""
    randaug_ops: int = Field(2, ge=1, le=10)
    """RandAugment's N: operations a picture."""
    randaug_magnitude: int = Field(9, ge=0, le=30)
    """RandAugment's M: strength of each operation."""


class LossConfig(Section):
    """The supervised loss: cross-entropy, binary cross-entropy or squared error, as the task has it."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Single-label tasks: share of the target spread over all classes."""
    pos_weight: bool = True
    """Multi-label tasks: positives of class c count N / n_c times."""
    pos_weight_cap: float = Field(100.0, ge=1)
    """pos_weight counts no positive more often than this."""
    class_weight: bool = False
    """Single-label tasks: class c counts N / (C n_c) times."""


class TrialConfig(Section):
    """One configuration. ``model`` is checked against the family's own ``Config``."""

    family: str
    """The model; `mmtune list families`."""
    dataset: str
    """The data; `mmtune list datasets`."""
    target: str | None = None
    """Which labels of the dataset; null takes its first."""
    graph: str | None = None
    """Which graph of the dataset the family reads; null takes its first. docs/datasets.md names those of each."""
    positive_class: str | None = None
    """Which of two classes the metric f1 is of; null: the second, in a table the later by name."""
    data_dir: str | None = None
    """Folder of the dataset; null for embedded ones."""
    seed: int = Field(1, ge=0, lt=2**32)
    """All of a trial's randomness derives from it: weights, order of rows, dropout, augmentation."""
    epochs: int = Field(10, ge=1, le=100_000)
    """Passes over the training rows, at most."""
    patience: int | None = Field(None, ge=1)
    """Epochs without a better objective before an early stop; null never stops early."""
    objective: str = "val_accuracy"
    """The metric that tells the best epoch and that patience looks at."""
    batch_size: int = Field(32, ge=1)
    """Labelled samples an optimiser step, over all ranks."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Labelled samples a forward and rank, the rest of a batch is accumulated; null does a batch at once."""
    batch_norm: Literal["step", "running"] = "step"
    """BatchNorm in trained encoders: statistics of a step's batch over all ranks, or those it came with, which stay."""
    unlabelled_ratio: int = Field(1, ge=0, le=100)
    """Unlabelled training rows beside each labelled one of a batch, under uda fixed, dynamic and in VAEs; 0: none."""
    eval_batch_size: int = Field(256, ge=1)
    """Samples a forward and rank where nothing is trained."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of forward and backward passes; auto: bf16 where the GPU has it, fp16 on older ones, fp32 on a CPU."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """What trains; auto: a GPU where there is one. In a study it follows resources.gpus_per_worker."""
    workers: int = Field(1, ge=1)
    """Ranks that train together, which `mmtune train` starts here or on a cluster. In a study: resources.workers."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of each worker; null: all there are. In a study it follows resources.cpus_per_worker."""
    checkpoint_every_seconds: float | None = Field(None, ge=0, le=1e6)
    """Seconds between checkpoints inside an epoch; null: none. In a study: resources.checkpoint_every_seconds."""
    max_text_len: int = Field(128, ge=2, le=8192)
    """Tokens, special ones included; the rest of a text is cut off."""
    image_size: int = Field(128, ge=8, le=2048)
    """Pixels a side, what the image encoder sees."""
    image_fit: ImageFit = "crop"
    """How a picture becomes square: its middle alone, all of it on grey, or all of it with its sides' ratio lost."""
    max_train_rows: int | None = Field(None, ge=1)
    """Train on so many random rows, the same for every seed; null: on all."""
    train_eval_rows: int | None = Field(None, ge=1)
    """Training rows to evaluate after an epoch for the training metric, M^T of dynamic lambda; null: as they train."""
    modality_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the training rows that lose one of their modalities, another each epoch: a blank stands for it."""
    compile: bool = False
    """torch.compile the model: pays off in long trainings only."""
    gradient_checkpointing: bool = False
    """Recompute the layers of trained encoders: less memory, a third slower."""
    cache_features: bool = True
    """Compute what locked encoders give once, instead of every epoch."""
    optim: OptimConfig = OptimConfig()  # pyright: ignore[reportCallIssue] (does not see Field's defaults)
    """Optimiser, schedule and clipping."""
    uda: UdaConfig = UdaConfig()  # pyright: ignore[reportCallIssue]
    """Unsupervised data augmentation."""
    loss: LossConfig = LossConfig()  # pyright: ignore[reportCallIssue]
    """The supervised loss."""
    model: Any = Field(default_factory=dict)
    """The family's own settings: its Config after validation."""

    @field_validator("data_dir", "target", "graph", "positive_class", mode="before")
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
