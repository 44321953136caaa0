"""What a locked encoder gives for every row, computed once and memory-mapped as float16.

A locked encoder over a fixed view of the data is a constant function, so its outputs are cached by
(weights, cut and pooling, size or length limit, dataset, view) and every later epoch and trial skips it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.augment.views import ImageView, TextView
from trainables.batch import Batch
from trainables.data.cache.arrays import Padded, Ragged, Shared, forget_pages, new_array, open_shared
from trainables.data.cache.identity import dataset_key, text_key
from trainables.data.cache.images import images_key, prepare_images
from trainables.data.cache.progress import tell
from trainables.data.cache.static import view_key
from trainables.data.cache.store import SHARDS, build_if_free, build_once, folder_of, meta, remove
from trainables.data.cache.tokens import Tokens, prepare_tokens, tokens_key
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.devices import device_name
from trainables.encoders.inputs import Input
from trainables.encoders.port import chosen, load_encoder, outputs
from trainables.encoders.weights import fingerprint
from trainables.imagefit import ImageFit

SHARD_ROWS = 1024
_CHUNK = 64  # rows a forward


@dataclass(frozen=True)
class Features:
    """Cached outputs: ``rows`` is (N, D), (N, P, D), or Ragged (sum L, D) for text tokens; of regions (N, R, G + 5)."""

    rows: np.ndarray | Ragged | Shared | Padded
    width: int
    num_parameters: int  # of the encoder that made them


@dataclass(frozen=True)
class FeatureJob:
    """The features of every row; of an augmented view only of the training rows.

    They are computed in shards of 1,024 rows, each a folder of its own until all are put together: what a killed
    process had finished is not computed again, and processes that need the same features share the shards.

    Attributes:
        dataset: whose rows.
        modality: 'text' or 'image'.
        input: what the family reads; must be locked.
        image_size: pixels a side that the image encoder sees.
        image_fit: how a picture becomes square.
        max_text_len: tokens a text is cut to.
        view: None for the clean data.
    """

    dataset: DatasetRef
    modality: str
    input: Input
    image_size: int = 0
    image_fit: ImageFit = "crop"
    max_text_len: int = 0
    view: TextView | ImageView | None = None

    @cached_property
    def key(self) -> dict[str, Any]:
        """What they depend on."""
        is_text = self.modality == "text"
        limit = {"max_text_len": self.max_text_len} if is_text else {"size": self.image_size, "fit": self.image_fit}
        settings = asdict(self.input) | {"encoder": fingerprint(self.input.encoder)}
        for name in (
            "is_optional",
            "is_standardised",
            "keeps_raw",
            "least_size",
            "max_tokens",
            "width",
        ):  # the port's and the loader's business
            del settings[name]
        source = text_key(self.dataset) if is_text else dataset_key(self.dataset)
        return {**source, "modality": self.modality, "input": settings, **limit, "view": view_key(self.view)}

    @cached_property
    def _forward_key(self) -> dict[str, Any]:
        """What the forwards depend on whose outputs are kept: the same for the pool alone as beside its tokens."""
        output = "projected" if self.input.output == "projected" else "pooled"
        return replace(self, input=replace(self.input, output=output, num_tokens=None)).key

    @cached_property
    def _source(self) -> Tokens | np.ndarray | Shared:
        if self.modality == "text":
            assert not isinstance(self.view, ImageView)
            return prepare_tokens(self.dataset, encoder=self.input.encoder, view=self.view)
        assert not isinstance(self.view, TextView)
        return prepare_images(self.dataset, size=self.image_size, fit=self.image_fit, view=self.view)

    @property
    def _source_folder(self) -> Path:
        """Where the tokens or pixels lie that they are computed from."""
        if self.modality == "text":
            assert not isinstance(self.view, ImageView)
            return folder_of("tokens", tokens_key(self.dataset, self.input.encoder, self.view))
        assert not isinstance(self.view, TextView)
        return folder_of("images", images_key(self.dataset, self.image_size, self.image_fit, self.view))

    @cached_property
    def _order(self) -> np.ndarray:
        """Row numbers in the order of computing: texts by length, so that little is padding. Of images that rows
        share the numbers of the images."""
        split = load_table(self.dataset).split
        rows = np.arange(len(split)) if self.view is None else np.flatnonzero(split == "train")
        if isinstance(self._source, Shared):
            return np.unique(self._source.index[rows])
        if isinstance(self._source, Tokens):
            rows = rows[np.argsort(self._source.length(self.max_text_len)[rows], kind="stable")]
        return rows

    @property
    def _about(self) -> str:
        augmented = "" if self.view is None else ", augmented"
        return f"{self.dataset.name}: {self.input.output} {self.modality} of {self.input.encoder}{augmented}"

    @property
    def num_shards(self) -> int:
        """How many shards there are."""
        return -(-len(self._order) // SHARD_ROWS)

    @property
    def is_done(self) -> bool:
        """Whether they are in the cache."""
        return folder_of("features", self.key).exists()

    def open(self, along: Sequence[FeatureJob] = ()) -> Features:
        """From the cache, or computed now.

        Args:
            along: others that will be needed: of each that the same forwards give the shards are kept too.

        Raises:
            ValueError: features that float16 cannot hold, or sources that cannot be read.
        """
        assert self.input.is_locked
        has_shards = not self.is_done

        def assemble(folder: Path) -> dict[str, Any]:
            nonlocal has_shards
            has_shards = True  # a damaged folder is made again too
            return self._assemble(folder)

        for index in range(self.num_shards) if has_shards else ():
            build_if_free(SHARDS, self._shard_key(index), partial(self.compute_shard, index, along=along))
        folder = build_once("features", self.key, assemble)
        for index in range(self.num_shards) if has_shards else ():
            shard = folder_of(SHARDS, self._shard_key(index))
            if shard.exists():
                remove(shard)
        return _open(folder)

    def build_shard(self, index: int, along: Sequence[FeatureJob] = ()) -> Path:
        """One shard, from the cache or computed now; :meth:`open` puts them together.

        Raises:
            ValueError: as :meth:`open`.
        """
        return build_once(SHARDS, self._shard_key(index), partial(self.compute_shard, index, along=along))

    def compute_shard(self, index: int, folder: Path, *, along: Sequence[FeatureJob] = ()) -> dict[str, Any]:
        """Writes one shard into a folder, whatever the cache holds; its facts."""
        began, beside = time.perf_counter(), [job for job in along if job != self and self._gives(job, index)]
        parts: list[list[np.ndarray]] = [[] for _ in (self, *beside)]
        shard = self._order[index * SHARD_ROWS : (index + 1) * SHARD_ROWS]
        before = SHARD_ROWS * sum(folder_of(SHARDS, self._shard_key(other)).exists() for other in range(index))
        for start in range(0, len(shard), _CHUNK):
            rows = shard[start : start + _CHUNK]
            batch = self._batch(rows)
            with torch.inference_mode():
                given = outputs(self._encoder, batch.to(self._device), modality=self.modality)
                for job, kept in zip((self, *beside), parts, strict=True):
                    kept.append(job._kept(chosen(given, job.input), rows))
            tell(self._about, before + start + len(rows), len(self._order))
        seconds = {"seconds": time.perf_counter() - began}  # that each would have taken by itself
        for job, kept in zip(beside, parts[1:], strict=True):
            write = partial(self._save, job, index, kept)
            build_if_free(SHARDS, job._shard_key(index), lambda to, write=write: {**write(to), **seconds})
        return self._save(self, index, parts[0], folder)

    def _gives(self, other: FeatureJob, index: int) -> bool:
        """Whether the forwards give that shard of another too, which the cache lacks."""
        if self.modality != other.modality or self._forward_key != other._forward_key or other.is_done:
            return False
        return not folder_of(SHARDS, other._shard_key(index)).exists()

    def _kept(self, values: Tensor, rows: np.ndarray) -> np.ndarray:
        """As they are kept of these rows: float16, and of texts no padding."""
        found, lengths = values.half().cpu().numpy(), self._lengths
        if not np.isfinite(found).all():
            raise ValueError(
                f"encoder '{self.input.encoder}': its features do not fit float16; set cache_features: false"
            )
        if lengths is None:
            return found
        return np.concatenate([value[: lengths[row]] for row, value in zip(rows, found, strict=True)])

    def _save(self, job: FeatureJob, index: int, values: Sequence[np.ndarray], folder: Path) -> dict[str, Any]:
        """Writes a shard of ``job``; its facts."""
        np.save(folder / "values.npy", np.concatenate(values))
        return {
            "about": f"{job._about}, shard {index + 1} of {self.num_shards}",
            "rows": len(self._order[index * SHARD_ROWS : (index + 1) * SHARD_ROWS]),
            "width": self._encoder.width,
            "num_parameters": sum(parameter.numel() for parameter in self._encoder.parameters()),
            "device": device_name(self._device),
        }

    def put_shard(self, index: int, files: dict[str, bytes], facts: dict[str, Any]) -> None:
        """Takes in a shard that another machine computed."""

        def write(folder: Path) -> dict[str, Any]:
            for name, content in files.items():
                (folder / name).write_bytes(content)
            return facts

        build_once(SHARDS, self._shard_key(index), write)

    def _shard_key(self, index: int) -> dict[str, Any]:
        return {**self.key, "shard": index, "rows": SHARD_ROWS}

    @cached_property
    def _encoder(self) -> Any:
        return load_encoder(self.modality, self.input).eval().to(self._device)

    @property
    def _device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def _batch(self, rows: np.ndarray) -> Batch:
        no_labels = torch.zeros(0)
        if isinstance(self._source, Tokens):
            ids, mask = self._source.padded(rows, self.max_text_len)
            return Batch(input_ids=ids, attention_mask=mask, labels=no_labels, ids=[])
        pixels = self._source.values if isinstance(self._source, Shared) else self._source
        return Batch(pixel_values=torch.from_numpy(pixels[rows]), labels=no_labels, ids=[])

    @cached_property
    def _lengths(self) -> np.ndarray | None:
        """Tokens of each row where the features are ragged."""
        if self.input.output == "tokens" and isinstance(self._source, Tokens):
            return self._source.length(self.max_text_len)
        return None

    def _assemble(self, folder: Path) -> dict[str, Any]:
        began, lengths, out, facts = time.perf_counter(), self._lengths, None, []
        offsets = None if lengths is None else np.concatenate([[0], np.cumsum(lengths)])
        for index in range(self.num_shards):
            shard = self.build_shard(index)
            values, rows = np.load(shard / "values.npy"), self._order[index * SHARD_ROWS : (index + 1) * SHARD_ROWS]
            if out is None:
                num_rows = len(load_table(self.dataset).ids) if offsets is None else int(offsets[-1])
                if isinstance(self._source, Shared):
                    num_rows = len(self._source.values)
                    np.save(folder / "index.npy", self._source.index)
                shape = (num_rows, *values.shape[1:])
                out = new_array(folder / "values.npy", dtype=np.float16, shape=shape)
            if offsets is None or lengths is None:
                out[rows] = values
            else:
                starts = np.concatenate([[0], np.cumsum(lengths[rows])])
                for row, start in zip(rows, starts, strict=False):
                    out[offsets[row] : offsets[row + 1]] = values[start : start + lengths[row]]
            forget_pages(out)
            facts.append(meta(shard))
        assert out is not None
        source = meta(self._source_folder)
        if offsets is not None:
            np.save(folder / "offsets.npy", offsets)
        return {
            "about": self._about,
            "rows": len(self._order),
            "seconds": sum(each["seconds"] for each in facts) + time.perf_counter() - began,
            "sources": {self._source_folder.name: source["seconds"], **source["sources"]},
            **{name: facts[0][name] for name in ("width", "num_parameters", "device")},
        }


def _open(folder: Path) -> Features:
    facts = meta(folder)
    rows, offsets = open_shared(folder, "values"), folder / "offsets.npy"
    if offsets.exists():
        assert isinstance(rows, np.ndarray)
        rows = Ragged(rows, np.load(offsets))
    return Features(rows, facts["width"], facts["num_parameters"])
