"""Text tokenised once a tokenizer, images decoded and resized once a size; memory-mapped afterwards.

Clean data and *static* augmented copies (one a sample, made once: Monter-Aldana et al. 2023, sec. 4)
go through the same functions and get folders of their own.
"""

from __future__ import annotations

import io
import mmap
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from trainables.augment.words import WordNeighbours, augment_images
from trainables.data.cache.store import build_once, meta
from trainables.data.formats import dataset_module
from trainables.data.reading.dataset import DatasetRef, dataset_texts, load_table
from trainables.data.reading.exclude import NAME as EXCLUDE
from trainables.data.reading.exclude import exclude_file
from trainables.data.reading.table import ImageFiles
from trainables.encoders.text import word_embeddings
from trainables.encoders.weights import fingerprint, is_random, load_tokenizer
from trainables.files import file_hash
from trainables.seeds import derive_seed

# What Pillow raises for bytes that are no image, or not all of one.
_UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
_TEXT_CHUNK, _IMAGE_CHUNK = 10_000, 256  # rows at a time
_HASHED_BYTES = 2**30
_STATIC_SEED = 1  # the static copy belongs to the dataset, not to a trial: all trials share it


@dataclass(frozen=True)
class TextView:
    """Words replaced by their nearest neighbour in ``vectors``: a text encoder's input embeddings, or a file."""

    share: float
    vectors: str
    is_file: bool = False  # word2vec or GloVe text


@dataclass(frozen=True)
class ImageView:
    """RandAugment (Cubuk et al. 2020)."""

    ops: int
    magnitude: int


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    values: np.ndarray
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def row(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True)
class Shared:
    """Rows of which several are the same (questions on one picture): row i is ``values[index[i]]``."""

    values: np.ndarray
    index: np.ndarray

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.values[self.index[rows]]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        """As if no row were shared."""
        return (len(self.index), *self.values.shape[1:])


def open_shared(folder: Path, name: str) -> np.ndarray | Shared:
    """A memory-mapped array of the cache, and beside it perhaps the rows that share its entries."""
    values = np.load(folder / f"{name}.npy", mmap_mode="r")
    index = folder / "index.npy"
    return Shared(values, np.load(index)) if index.exists() else values


@dataclass(frozen=True)
class Tokens:
    """Token ids without specials, and what surrounds and pads them."""

    ids: Ragged
    prefix: list[int]
    suffix: list[int]
    pad: int

    def length(self, max_len: int) -> np.ndarray:
        """Tokens of each row after truncation to ``max_len``, specials included."""
        return np.minimum(self.ids.lengths, self._room(max_len)) + len(self.prefix) + len(self.suffix)

    def encoded(self, row: int, max_len: int) -> list[int]:
        """One row with its specials, the text cut so that at most ``max_len`` ids remain."""
        return [*self.prefix, *self.ids.row(row)[: self._room(max_len)].tolist(), *self.suffix]

    def _room(self, max_len: int) -> int:
        return max(0, max_len - len(self.prefix) - len(self.suffix))


@lru_cache(maxsize=4)
def dataset_key(dataset: DatasetRef) -> dict[str, Any]:
    """What identifies the data: the dataset's name and the bytes of its files; of loose images, and of files
    above 1 GiB, name, size and time. Kept for the process, as the table is.
    """
    paths: list[Path] = dataset_module(dataset.name).sources(dataset.data_dir)
    excluded = exclude_file(dataset.data_dir)
    paths += [] if excluded is None else [excluded]
    files = [file_hash(path) if path.stat().st_size <= _HASHED_BYTES else _stamp(path) for path in paths]
    key: dict[str, Any] = {"dataset": dataset.name, "files": files}
    images = load_table(dataset).images
    if isinstance(images, ImageFiles):
        key["images"] = images.stamp
    return key


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{path.name}:{stat.st_size}:{stat.st_mtime_ns}"


def view_key(view: TextView | ImageView | None) -> dict[str, Any] | None:
    """The view's settings, and the weights behind its word vectors."""
    if view is None:
        return None
    settings: dict[str, Any] = {"seed": _STATIC_SEED, **asdict(view)}
    if isinstance(view, TextView):
        settings["vectors"] = file_hash(Path(view.vectors)) if view.is_file else fingerprint(view.vectors)
    return settings


class NpyWriter:
    """A one-dimensional .npy file that grows as it is written."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype, self.length = path, dtype, 0

    def __enter__(self) -> NpyWriter:
        self.file = self.path.open("wb")
        self._header()
        return self

    def write(self, values: np.ndarray) -> None:
        """Appends them."""
        self.file.write(values.astype(self.dtype).tobytes())
        self.length += len(values)

    def __exit__(self, *error: object) -> None:
        self.file.seek(0)
        self._header()
        self.file.close()

    def _header(self) -> None:
        """numpy leaves room for the length to grow: written again, it takes the same bytes."""
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self.file, header)


def tokens_key(dataset: DatasetRef, encoder: str, view: TextView | None) -> dict[str, Any]:
    """What the token ids depend on."""
    return {**dataset_key(dataset), "encoder": fingerprint(encoder), "view": view_key(view)}


def images_key(dataset: DatasetRef, size: int, view: ImageView | None) -> dict[str, Any]:
    """What the resized images depend on."""
    return {**dataset_key(dataset), "size": size, "view": view_key(view)}


# --- text -------------------------------------------------------------------------------------------
def prepare_tokens(dataset: DatasetRef, *, encoder: str, view: TextView | None = None) -> Tokens:
    """Token ids of every row for the encoder's tokenizer, from the cache or built now."""

    def build(folder: Path) -> dict[str, Any]:
        tokenizer = dataset_tokenizer(dataset, encoder)
        texts, num_rows = dataset_texts(dataset), len(load_table(dataset).ids)
        lengths = np.zeros(num_rows, np.int64)
        with NpyWriter(folder / "ids.npy", np.dtype(np.int32)) as out:  # in parts: all ids at once are much memory
            for at in range(0, num_rows, _TEXT_CHUNK):
                rows = np.arange(at, min(at + _TEXT_CHUNK, num_rows))
                part = [texts[row] for row in rows] if view is None else augmented_texts(dataset, view, rows)
                encoded = tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
                lengths[rows] = [len(ids) for ids in encoded]
                out.write(np.array([token for ids in encoded for token in ids], np.int32))
        np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]))
        specials = tokenizer("")["input_ids"]
        num_before = (len(specials) + 1) // 2 if len(specials) > 1 else 0
        return {
            "about": f"{dataset.name}: tokens of {encoder}" + ("" if view is None else ", augmented"),
            "prefix": specials[:num_before],
            "suffix": specials[num_before:],
            "pad": tokenizer.pad_token_id or 0,
        }

    folder = build_once("tokens", tokens_key(dataset, encoder, view), build)
    facts = meta(folder)
    ids = Ragged(np.load(folder / "ids.npy", mmap_mode="r"), np.load(folder / "offsets.npy"))
    return Tokens(ids=ids, prefix=facts["prefix"], suffix=facts["suffix"], pad=facts["pad"])


@lru_cache(maxsize=4)
def dataset_tokenizer(dataset: DatasetRef, encoder: str) -> Any:
    """The encoder's tokenizer; one without weights gets its vocabulary from the training texts."""
    split, texts = load_table(dataset).split, dataset_texts(dataset)
    return load_tokenizer(encoder, texts=[texts[row] for row in np.flatnonzero(split == "train")])


def augmented_texts(dataset: DatasetRef, view: TextView, rows: np.ndarray) -> list[str]:
    """The static copy of these rows' texts."""
    texts, ids, neighbours = dataset_texts(dataset), load_table(dataset).ids, word_neighbours(dataset, view)
    return [
        neighbours.replace(texts[row], share=view.share, seed=derive_seed(_STATIC_SEED, "words", ids[row]))
        for row in rows
    ]


def word_neighbours(dataset: DatasetRef, view: TextView) -> WordNeighbours:
    """The nearest words, which all datasets and shares have in common (an encoder without weights apart).

    Raises:
        ValueError: the file of word vectors is malformed.
    """

    def build(folder: Path) -> dict[str, Any]:
        if view.is_file:
            neighbours = WordNeighbours.from_vectors_file(view.vectors)
        else:
            tokenizer = dataset_tokenizer(dataset, view.vectors)
            neighbours = WordNeighbours.from_text_encoder(tokenizer, word_embeddings(view.vectors))
        neighbours.save(folder / "words.json")
        return {"words": len(neighbours.nearest), "about": f"nearest words of {view.vectors}"}

    if view.is_file:
        if not Path(view.vectors).is_file():
            raise ValueError(f"uda.vectors: {view.vectors} is no file")
        key: dict[str, Any] = {"file": file_hash(Path(view.vectors))}
    else:
        key = {"encoder": fingerprint(view.vectors), **(dataset_key(dataset) if is_random(view.vectors) else {})}
    return _load_neighbours(build_once("neighbours", key, build) / "words.json")


@lru_cache(maxsize=2)
def _load_neighbours(path: Path) -> WordNeighbours:
    return WordNeighbours.load(path)


# --- images -----------------------------------------------------------------------------------------
def prepare_images(dataset: DatasetRef, *, size: int, view: ImageView | None = None) -> np.ndarray | Shared:
    """Every image as uint8 (N, 3, size, size), memory-mapped, from the cache or built now; a file once.

    Raises:
        ValueError: images that cannot be decoded: how many, and the first.
    """

    def build(folder: Path) -> dict[str, Any]:
        table = load_table(dataset)
        images = table.images
        if images is None:
            raise ValueError(f"dataset {dataset.name} has no images")
        units, index = np.arange(len(images)), None  # rows with an image of their own
        if isinstance(images, ImageFiles):
            _, units, index = np.unique(np.array(images.names), return_index=True, return_inverse=True)
        shape = (len(units), 3, size, size)
        out = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)

        broken: list[str] = []

        def decode(row: int) -> np.ndarray:
            try:
                return decode_image(images[row], size=size, where=f"{dataset.name} row {table.ids[row]}")
            except ValueError as error:
                broken.append(str(error))
                return np.zeros(shape[1:], np.uint8)

        with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:  # Pillow lets go of the interpreter
            for at in range(0, len(units), _IMAGE_CHUNK):
                rows = units[at : at + _IMAGE_CHUNK]
                part = np.stack(list(pool.map(decode, rows)))
                out[at : at + len(rows)] = part if view is None else augmented_images(part, view, rows)
                forget_pages(out)
        if broken:
            others = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
            raise ValueError(
                f"{sorted(broken)[0]}{others}. `mmtune data check {dataset.name}` lists them; replace the pictures, "
                f"or leave the rows out: their ids, one a line, in {EXCLUDE} of the data folder"
            )
        if index is not None and len(units) < len(images):
            np.save(folder / "index.npy", index)
        augmented = "" if view is None else ", augmented"
        return {"rows": shape[0], "about": f"{dataset.name}: images at {size} pixels{augmented}"}

    return open_shared(build_once("images", images_key(dataset, size, view), build), "images")


def forget_pages(mapped: np.ndarray) -> None:
    """Writes a memory map to its file and takes its pages out of this process, which would grow with the file."""
    assert isinstance(mapped, np.memmap)
    mapped.flush()
    mapped._mmap.madvise(mmap.MADV_DONTNEED)  # pyright: ignore[reportAttributeAccessIssue]


def augmented_images(images: np.ndarray, view: ImageView, rows: np.ndarray) -> np.ndarray:
    """The static copy of the images of these rows: uint8 (B, 3, S, S)."""
    seed = derive_seed(_STATIC_SEED, "images")
    pixels = torch.from_numpy(images)
    return augment_images(pixels, ops=view.ops, magnitude=view.magnitude, seed=seed, indices=rows.tolist()).numpy()


def decode_image(data: bytes, *, size: int, where: str) -> np.ndarray:
    """An image file's bytes as uint8 RGB (3, size, size): its middle square, transparency on white.

    Raises:
        ValueError: the bytes are no image, or not all of one; ``where`` is named.
    """
    image = rgb_image(data, where=where)
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box)).transpose(2, 0, 1)


def rgb_image(data: bytes, *, where: str) -> Image.Image:
    """An image file's bytes as an RGB image, transparency on white.

    Raises:
        ValueError: the bytes are no image, or not all of one; ``where`` is named.
    """
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except _UNDECODABLE as error:
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else error  # whose text has an address
        raise ValueError(f"{where}: the image cannot be decoded ({reason})") from None
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion cuts everything above 255 off
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
