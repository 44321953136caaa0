"""A trained model from its folder, without the data it was trained on: rows in, outputs out.

Sizes: B rows, C outputs, M numbers, S pixels a side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables.batch import Batch, ModelOutput, modality_fields
from trainables.checkpoint import BEST, load_checkpoint, load_locked, load_model
from trainables.config import TrialConfig
from trainables.data.blank import blank_fields
from trainables.data.cache.tokens import tokens_of
from trainables.data.padding import pad_rows
from trainables.data.reading.scale import LabelScale
from trainables.data.reading.table import Neighbours
from trainables.data.reading.tabular import Tabular, category_codes
from trainables.encoders.architectures import ARCHITECTURES
from trainables.encoders.inputs import Input
from trainables.encoders.port import Port, encode
from trainables.encoders.published import without_published
from trainables.encoders.tokenizers import load_tokenizer, wordpiece_tokenizer
from trainables.encoders.weights import encoder_places, fingerprint
from trainables.exported import DRAWN, check_files, read_manifest
from trainables.families import family_inputs
from trainables.messages import unknown
from trainables.model import family_model, load_port, there
from trainables.modelfolder import TOKENIZER, ModelFacts, read_facts
from trainables.precision import Precision, choose_precision
from trainables.progress import Row
from trainables.ranks import best_device
from trainables.task import Task

DEVICES = ("auto", "cpu", "gpu")
_CHUNK = 64  # rows that a locked encoder sees at once, as when its features are cached


Change = Callable[[Batch], Batch]


@dataclass(frozen=True)
class Inputs:
    """B rows of new data; None is what they do not have.

    Attributes:
        ids: B names for them.
        texts: B texts.
        pixels: (B, 3, S, S) uint8, as :func:`trainables.data.reading.pictures.decode_image` gives them.
        regions: (B, R, G + 5) float16, what a model reads in place of pixels that is trained on regions.
        numeric: (B, M) float64, NaN where missing, the columns as the facts have them.
        categorical: by column B values, None where missing; a value that no training row had counts as missing.
        neighbours: of each row the nodes that it is linked to, from 0.
    """

    ids: Sequence[str]
    texts: Sequence[str] | None = None
    pixels: np.ndarray | None = None
    regions: np.ndarray | None = None
    numeric: np.ndarray | None = None
    categorical: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    neighbours: Sequence[np.ndarray] | None = None


@dataclass(frozen=True)
class Trained:
    """A model that answers; see :func:`load_trained`.

    Attributes:
        folder: where it is from.
        config: what was trained.
        facts: what it knows of its data.
        model: in eval mode on ``device``, its encoders inside.
        device: where it runs.
        precision: as it was trained, if the device can.
        epoch: its best one.
        report: the metrics of that epoch, by which it was chosen.
        places: where the files of its encoders are, if it was exported.
    """

    folder: Path
    config: TrialConfig
    facts: ModelFacts
    model: nn.Module
    device: torch.device
    precision: Precision
    epoch: int
    report: Row
    places: Mapping[str, Path] = field(default_factory=dict)
    region_file: str | None = None

    @property
    def task(self) -> Task:
        """What is predicted."""
        return self.facts.task

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it reads."""
        has = {"numeric": bool(self.facts.numeric), "categorical": bool(self.facts.categorical)}
        inputs = family_inputs(self.config)
        return tuple(name for name, input in inputs.items() if not input.is_optional or has[name])

    @property
    def regions(self) -> Input | None:
        """What it reads of a picture, where that is regions from a file."""
        image = family_inputs(self.config).get("image")
        if image is None or not image.is_regions:
            return None
        return image if self.region_file is None else replace(image, encoder=self.region_file)

    @property
    def label_scale(self) -> LabelScale | None:
        """Of a regression, what its outputs are z-scores of."""
        return None if self.facts.label_scale is None else LabelScale(*self.facts.label_scale)

    @cached_property
    def tokenizer(self) -> Any:
        """Of its text encoder."""
        name = self.facts.encoders["text"].name
        if name in ARCHITECTURES:
            return wordpiece_tokenizer((self.folder / TOKENIZER).read_text(encoding="utf-8"))
        with encoder_places(self.places):
            return load_tokenizer(name, texts=[])

    def batch(self, inputs: Inputs) -> Batch:
        """The rows as the model reads them, on its device; what it does not read is left out.

        Raises:
            ValueError: they lack something that it reads.
        """
        reads, found = self.modalities, {}
        image = inputs.pixels if self.regions is None else inputs.regions
        for modality, given in (
            ("text", inputs.texts), ("image", image), ("numeric", inputs.numeric),
            ("categorical", inputs.categorical or None), ("graph", inputs.neighbours),
        ):  # fmt: skip
            if modality in reads and given is None:
                raise ValueError(f"{modality} is missing, which family {self.config.family} reads here")
        if "text" in reads and inputs.texts is not None:
            tokens = tokens_of(self.tokenizer, list(inputs.texts))
            rows = np.arange(len(inputs.ids))
            found["input_ids"], found["attention_mask"] = tokens.padded(rows, self.config.max_text_len)
        if "image" in reads and image is not None:
            rows_first = np.ascontiguousarray(image)  # a convolution's last digit follows the order in memory
            found["pixel_values" if self.regions is None else "image_features"] = torch.from_numpy(rows_first)
        if "numeric" in reads and inputs.numeric is not None:
            found["numeric"] = torch.from_numpy(inputs.numeric)
        if "categorical" in reads:
            found["categories"] = torch.from_numpy(category_codes(inputs.categorical, self.facts.categorical))
        if "graph" in reads and inputs.neighbours is not None:
            found["neighbours"], _ = pad_rows([nodes + 1 for nodes in inputs.neighbours])
        labels = no_labels(self.task, len(inputs.ids))
        return Batch(**found, labels=labels, ids=list(inputs.ids)).to(self.device)

    @torch.inference_mode()
    def with_features(self, batch: Batch) -> Batch:
        """The batch with what its locked encoders give, in float16, where it was trained on cached features."""
        for modality, used in self.facts.encoders.items():
            if used.is_cached and batch.has(modality) and batch.features(modality) is None:
                batch = self._with_features(batch, modality)
        return batch

    def _with_features(self, batch: Batch, modality: str) -> Batch:
        port, parts = self._ports[modality], []
        assert port.encoder is not None
        for at in range(0, batch.size, _CHUNK):
            part = batch.slice(at, min(at + _CHUNK, batch.size))
            parts.append(encode(port.encoder, part, modality=modality, input=port.input).half())
        features, mask = torch.cat(parts), batch.attention_mask
        if modality == "image":
            return replace(batch, pixel_values=None, image_features=features)
        if port.input.output == "tokens" and mask is not None:  # as they come from the cache
            return replace(batch, input_ids=None, text_features=features * mask.unsqueeze(-1).to(features.dtype))
        return replace(batch, input_ids=None, attention_mask=None, text_features=features)

    @cached_property
    def _ports(self) -> dict[str, Port]:
        return {module.modality: module for module in self.model.modules() if isinstance(module, Port)}

    @torch.inference_mode()
    def forward(self, batch: Batch) -> ModelOutput:
        """The model's outputs of a batch."""
        batch = self.with_features(batch.to(self.device))
        with self.precision.autocast():
            return self.model(batch)

    def changed(self, batch: Batch, change: Change | None) -> ModelOutput:
        """The outputs of a batch to which ``change`` was done once it had its features; None: of it as it is."""
        batch = batch.to(self.device)
        return self.forward(batch if change is None else change(self.with_features(batch)))

    def blank(self, batch: Batch, modality: str) -> Batch:
        """The same samples with an empty text, a grey picture, or no known value."""
        size, facts = batch.size, self.facts
        found = blank_fields(
            modality, tokenizer=self.tokenizer if modality == "text" else None,
            max_text_len=self.config.max_text_len, image_size=self.config.image_size,
            num_columns=len(facts.numeric if modality == "numeric" else facts.categorical),
            regions=self.regions if modality == "image" else None,
        )  # fmt: skip
        one = Batch(**found, labels=torch.zeros(1), ids=[""])  # pyright: ignore[reportArgumentType]
        one = self.with_features(one.to(self.device))
        names = modality_fields(modality)
        values = {name: getattr(one, name) for name in names}
        return replace(
            batch, **{name: None if v is None else v.expand(size, *v.shape[1:]) for name, v in values.items()}
        )

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """What is told of logits (B, C): probabilities (B, C), of a regression numbers (B,) in the labels' unit."""
        values = torch.from_numpy(np.asarray(logits, np.float64))
        if self.task.kind == "regression":
            scale = self.label_scale
            assert scale is not None
            return scale.restored(values.numpy())[:, 0]
        return (values.softmax(dim=1) if self.task.kind == "multiclass" else values.sigmoid()).numpy()


def no_labels(task: Task, size: int) -> Tensor:
    """What stands for the labels of ``size`` rows that have none: a family may compute a loss of them."""
    if task.kind == "multilabel":
        return torch.zeros(size, task.num_outputs)
    return torch.zeros(size, dtype=torch.int64 if task.kind == "multiclass" else torch.float32)


def load_trained(folder: Path, *, device: str = "auto", regions: str | None = None) -> Trained:
    """The model of a trial's folder, of what `mmtune train` wrote, or of an exported one.

    Args:
        folder: with ``model.json`` and ``best.safetensors``.
        device: 'auto', 'cpu' or 'gpu'.
        regions: a detector's file of regions of the rows that it will be asked; None: the one it was trained on.

    Raises:
        ValueError: no such device, no trained model, regions for a model that reads none, an encoder that is not there
            or is another than it was trained with, or a file of an exported folder that is damaged.
    """
    if device not in DEVICES:
        raise ValueError(f"device {unknown(device, DEVICES)}")
    manifest = read_manifest(folder)
    if manifest is not None:
        check_files(folder, manifest)
    facts = read_facts(folder)
    tensors, saved = load_checkpoint(folder / BEST)
    config = TrialConfig(**saved["config"])
    places = {} if manifest is None else {name: folder / path for name, path in manifest.encoders.items()}
    for modality, used in facts.encoders.items():
        if used.is_regions:
            continue  # of new pictures the file knows more
        if used.name not in places and fingerprint(used.name) != used.fingerprint:
            raise ValueError(f"{folder}: its {modality} encoder '{used.name}' has other files than it was trained with")
    place = best_device(device)  # pyright: ignore[reportArgumentType]
    with torch.random.fork_rng(devices=[]), encoder_places(places), without_published():
        model = _build(config, facts).to(place)
    load_model(model, tensors)
    if (folder / DRAWN).is_file():
        load_locked(model, load_file(folder / DRAWN))
    is_possible = config.precision != "fp16" or place.type == "cuda"
    precision = choose_precision(config.precision if is_possible else "auto", place)
    trained = Trained(
        folder, config, facts, model.eval(), place, precision, saved["epoch"], saved["report"], places, regions
    )
    if regions is not None and trained.regions is None:
        raise ValueError(f"--regions: the model in {folder} reads no regions of an object detector")
    return trained


def _build(config: TrialConfig, facts: ModelFacts) -> nn.Module:
    tabular = _tabular(facts)
    ports = {
        modality: load_port(modality, input, tabular=tabular, dataset=facts.dataset)
        for modality, input in there(family_inputs(config), tabular, dataset=facts.dataset).items()
    }
    return family_model(config, facts.task, ports)


def _tabular(facts: ModelFacts) -> Tabular:
    """Without rows."""
    no_rows, scales = np.zeros(0, np.int64), facts.numeric
    return Tabular(
        numeric=np.zeros((0, len(scales))) if scales else None,
        numeric_names=tuple(scale.name for scale in scales),
        mean=np.array([scale.mean for scale in scales]),
        std=np.array([scale.std for scale in scales]),
        has_missing=np.array([scale.has_missing for scale in scales], bool),
        codes=np.zeros((0, len(facts.categorical)), np.int64) if facts.categorical else None,
        values=facts.categorical,
        graph=None if facts.num_nodes is None else Neighbours(no_rows, np.zeros(1, np.int64), facts.num_nodes),
    )
