"""The typed values that flow between loader, family, losses and metrics: Batch, ModelOutput.

Sizes: B samples, C outputs, L text tokens, P image patches, D features, H x W pixels, M numbers, K columns of
categories, E neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

_FIELDS = {  # modality -> its fields of a Batch
    "text": ("input_ids", "attention_mask", "text_features"),
    "image": ("pixel_values", "image_features"),
    "numeric": ("numeric",),
    "categorical": ("categories",),
    "graph": ("neighbours",),
}
_PADDED = ("input_ids", "attention_mask", "neighbours")


def modality_fields(modality: str) -> tuple[str, ...]:
    """The fields of a Batch that carry a modality, raw or as features."""
    return _FIELDS[modality]


@dataclass(slots=True, kw_only=True)
class Batch:
    """B samples. None stands for an input that this dataset or family does not have.

    Attributes:
        input_ids: (B, L) int64, padded on the right with zeros.
        attention_mask: (B, L), 1 on tokens and 0 on padding; also masks (B, L, D) text features.
        text_features: (B, D) or (B, L, D), from a locked text encoder.
        pixel_values: (B, 3, H, W).
        image_features: (B, D) or (B, P, D), from a locked image encoder.
        numeric: (B, M), NaN where a value is missing.
        categories: (B, K) int64 codes, 0 for a value that is missing or unknown.
        neighbours: (B, E) int64, nodes of a graph from 1, padded on the right with zeros.
        labels: (B,) int64 multi-class, (B, C) float multi-label, (B,) z-scores of a regression.
        ids: B sample ids.
    """

    input_ids: Tensor | None = None
    attention_mask: Tensor | None = None
    text_features: Tensor | None = None
    pixel_values: Tensor | None = None
    image_features: Tensor | None = None
    numeric: Tensor | None = None
    categories: Tensor | None = None
    neighbours: Tensor | None = None
    labels: Tensor
    ids: list[str]

    @property
    def size(self) -> int:
        """B."""
        return self.labels.shape[0]

    def features(self, modality: str) -> Tensor | None:
        """What a locked encoder gave for 'text' or 'image', where the batch carries it."""
        return {"text": self.text_features, "image": self.image_features}.get(modality)

    def has(self, modality: str) -> bool:
        """Whether the batch has the modality, raw or as features."""
        return any(getattr(self, name) is not None for name in _FIELDS[modality])

    def without(self, modality: str) -> Batch:
        """The same samples as if they never had the modality."""
        return replace(self, **dict.fromkeys(_FIELDS[modality]))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on ``device``; ``non_blocking`` overlaps the copy if the memory is pinned."""
        moved = {name: value.to(device, non_blocking=non_blocking) for name, value in self._tensors().items()}
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked host memory (a DataLoader calls this by name)."""
        return replace(self, **{name: value.pin_memory() for name, value in self._tensors().items()})

    def slice(self, a: int, b: int) -> Batch:
        """Samples a to b - 1, as views; text keeps its padded length."""
        cut = {name: value[a:b] for name, value in self._tensors().items()}
        return replace(self, **cut, ids=self.ids[a:b])

    def concat(self, other: Batch) -> Batch:
        """This batch followed by ``other``; the shorter text is padded with zeros under a mask of 0."""
        mine, theirs = self._tensors(), other._tensors()
        assert mine.keys() == theirs.keys(), f"different inputs: {sorted(mine)} and {sorted(theirs)}"
        joined = {}
        for name, value in mine.items():
            pair = [value, theirs[name]]
            if name in _PADDED or (name == "text_features" and value.ndim == 3):
                length = max(part.shape[1] for part in pair)
                assert self.attention_mask is not None or name == "neighbours" or value.shape[1] == pair[1].shape[1], (
                    f"{name}: lengths differ and there is no attention mask to tell padding from text"
                )
                pair = [_pad_tokens(part, length) for part in pair]
            joined[name] = torch.cat(pair)
        return Batch(**joined, ids=self.ids + other.ids)

    def _tensors(self) -> dict[str, Tensor]:
        named = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in named.items() if isinstance(value, Tensor)}


@dataclass(slots=True)
class ModelOutput:
    """What a family's forward returns.

    Attributes:
        logits: (B, C).
        features: by name, e.g. text, image, joint; each (B, D).
        losses: named, weighted, what a family adds to the supervised loss; each (B,), a value a sample: the step
            takes the mean over the samples that are trained on, and leaves the augmented copies of UDA out.
        supervised_weight: what the supervised loss is multiplied by before these are added; a number or a scalar.
        heads: logits (B, C) of further heads, by modality; each adds a supervised loss of its own.
        head_weights: what those losses are multiplied by, scalars by modality.
    """

    logits: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)
    supervised_weight: float | Tensor = 1.0
    heads: dict[str, Tensor] = field(default_factory=dict)
    head_weights: dict[str, Tensor] = field(default_factory=dict)


def _pad_tokens(tokens: Tensor, length: int) -> Tensor:
    missing = length - tokens.shape[1]
    return F.pad(tokens, (0, 0) * (tokens.ndim - 2) + (0, missing)) if missing else tokens
