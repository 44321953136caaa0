"""Requirements: what the cache must hold before a trial can start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainables.augment.views import ImageView, TextView
from trainables.config import TrialConfig
from trainables.data.cache.arrays import Shared
from trainables.data.cache.features import FeatureJob, Features
from trainables.data.cache.images import images_key, prepare_images
from trainables.data.cache.regions import are_prepared, prepare_regions
from trainables.data.cache.store import folder_of
from trainables.data.cache.tokens import Tokens, prepare_tokens, tokens_key
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.encoders.inputs import Input
from trainables.encoders.tokenizers import max_text_tokens
from trainables.encoders.weights import find_weights
from trainables.families import family_inputs
from trainables.imagefit import ImageFit


@dataclass(frozen=True)
class Requirement:
    """One thing the cache must hold before a trial can start; ``build`` makes it if it does not.

    Attributes:
        dataset: whose rows.
        modality: 'text' or 'image'.
        input: what the family reads of it.
        uses_features: what the locked encoder gives, instead of tokens or pixels.
        image_size: of images, pixels a side.
        image_fit: of images, how they become square.
        max_text_len: of features of text, tokens a text is cut to.
        view: None for the clean data.
    """

    dataset: DatasetRef
    modality: str
    input: Input
    uses_features: bool
    image_size: int | None
    image_fit: ImageFit | None
    max_text_len: int | None
    view: TextView | ImageView | None

    @property
    def field(self) -> str:
        """Which field of a :class:`trainables.data.views.View` it fills."""
        if self.uses_features or self.input.is_regions:
            return f"{self.modality}_features"
        return "tokens" if self.modality == "text" else "images"

    def build(self, along: Sequence[Requirement] = ()) -> Features | Tokens | np.ndarray | Shared:
        """From the cache, or computed now (under the cache's lock).

        Args:
            along: others that will be needed: features that the same forwards of an encoder give are kept too.
        """
        if self.uses_features:
            return self.features.open([other.features for other in along if other.uses_features])
        if self.input.is_regions:
            return prepare_regions(self.dataset, self.input)
        if self.modality == "text":
            assert not isinstance(self.view, ImageView)
            return prepare_tokens(self.dataset, encoder=self.input.encoder, view=self.view)
        assert not isinstance(self.view, TextView)
        assert self.image_size is not None and self.image_fit is not None
        return prepare_images(self.dataset, size=self.image_size, fit=self.image_fit, view=self.view)

    @property
    def is_done(self) -> bool:
        """Whether the cache has it."""
        if self.uses_features:
            return self.features.is_done
        if self.input.is_regions:
            return are_prepared(self.dataset, self.input)
        if self.modality == "text":
            assert not isinstance(self.view, ImageView)
            return folder_of("tokens", tokens_key(self.dataset, self.input.encoder, self.view)).exists()
        assert not isinstance(self.view, TextView)
        assert self.image_size is not None and self.image_fit is not None
        return folder_of("images", images_key(self.dataset, self.image_size, self.image_fit, self.view)).exists()

    def without_features(self) -> Requirement:
        """The tokens or pixels that the features are computed from; itself where it is those, or regions."""
        return replace(self, uses_features=False, max_text_len=None)

    @property
    def features(self) -> FeatureJob:
        """How the features are computed, where ``uses_features``."""
        return FeatureJob(
            self.dataset, self.modality, self.input, self.image_size or 0, self.image_fit or "crop",
            self.max_text_len or 0, self.view,
        )  # fmt: skip


def requirements(config: TrialConfig) -> list[Requirement]:
    """What ``config`` needs prepared: the clean data first, then static augmented views.

    Raises:
        ValueError: UDA views that the family does not have, more tokens than the text encoder takes, pictures smaller
            than what is reconstructed of them, modality dropout of one modality, or a graph that nobody reads.
    """
    dataset, inputs = DatasetRef.of(config), family_inputs(config)
    copies = augmentations(config, inputs)
    if config.modality_dropout and len(inputs) < 2:
        only = " and ".join(inputs)
        raise ValueError(f"modality_dropout: family '{config.family}' reads {only} alone here, which it cannot lose")
    if config.graph is not None and "graph" not in inputs:
        raise ValueError(f"graph: family '{config.family}' reads {' and '.join(inputs)} here, and no graph")
    if "text" in inputs:
        _check_text_length(config, inputs["text"])
    if "image" in inputs and config.image_size < inputs["image"].least_size:
        least = inputs["image"].least_size
        raise ValueError(f"model.picture_size: {least} is more than image_size, {config.image_size}")

    def one(modality: str, view: TextView | ImageView | None) -> Requirement:
        entry, is_text = inputs[modality], modality == "text"
        is_constant = modality not in copies or config.uda.copies == "static"
        uses_features = entry.has_encoder and entry.is_locked and config.cache_features and is_constant
        has_pixels = not is_text and not entry.is_regions
        return Requirement(
            dataset=dataset, modality=modality, input=entry, uses_features=uses_features,
            image_size=config.image_size if has_pixels else None, image_fit=config.image_fit if has_pixels else None,
            max_text_len=config.max_text_len if is_text and uses_features else None, view=view,
        )  # fmt: skip

    needed = [one(modality, None) for modality in inputs if modality in ("text", "image")]
    needed += [need.without_features() for need in needed if need.uses_features and need.input.keeps_raw]
    if config.uda.copies == "static":
        needed += [one(modality, view) for modality, view in copies.items()]
    return needed


def augmentations(config: TrialConfig, inputs: dict[str, Input]) -> dict[str, TextView | ImageView]:
    """Modality -> how ``config`` augments it; empty without UDA.

    Args:
        inputs: what its family reads.

    Raises:
        ValueError: UDA views that the family does not have.
    """
    uda = config.uda
    if uda.mode == "none":
        return {}
    views = ("text", "image") if uda.views == "both" else (uda.views,)
    if "image" in views and "image" in inputs and inputs["image"].is_regions:
        raise ValueError(f"uda.views: '{uda.views}' augments pictures, but here regions are read from a file; use text")
    found = {modality: entry for modality, entry in inputs.items() if modality in views}
    if not found:
        raise ValueError(f"uda.views: '{uda.views}' augments no input of family '{config.family}'")
    return {
        modality: ImageView.of(uda) if modality == "image" else TextView.of(uda, encoder=entry.encoder)
        for modality, entry in found.items()
    }


def dataset_requirements(
    dataset: DatasetRef,
    *,
    text_encoder: str,
    image_encoder: str,
    image_size: int,
    image_fit: ImageFit,
    max_text_len: int,
) -> list[Requirement]:
    """Pooled features of a locked text and a locked image encoder, for what the dataset has; random ones as a trial
    draws them by default.

    Raises:
        ValueError: an unknown dataset or encoder, or unreadable files.
    """
    table, needed, seed = load_table(dataset), [], TrialConfig.model_fields["seed"].default
    for name in (text_encoder, image_encoder):
        find_weights(name)
    if table.texts is not None:
        text = Input(text_encoder, is_locked=True).drawn_from(seed)
        needed.append(Requirement(dataset, "text", text, True, None, None, max_text_len, None))
    if table.images is not None:
        image = Input(image_encoder, is_locked=True).drawn_from(seed)
        needed.append(Requirement(dataset, "image", image, True, image_size, image_fit, None, None))
    return needed


def _check_text_length(config: TrialConfig, text: Input) -> None:
    limit = text.max_tokens or max_text_tokens(text.encoder)
    if limit is not None and config.max_text_len > limit:
        raise ValueError(f"max_text_len: {config.max_text_len} is more than the {limit} that {text.encoder} takes")
