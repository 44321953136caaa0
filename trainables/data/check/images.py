"""Every image of a table decoded once, a few at a time: what it is, and hashes that tell copies.

A picture that several rows share (one file name, or the same bytes) is decoded once. N rows, U pictures.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from trainables.data.reading.pictures import rgb_image
from trainables.data.reading.table import ImageFiles

_MOST_THREADS = 8
_STEP = 2  # grey levels: smaller steps are noise of compression, and no bit of a hash


@dataclass(frozen=True)
class Picture:
    """What is known of an image file after it was decoded.

    Attributes:
        file_hash: sha256 of its bytes; None if there are none.
        problem: why it cannot be read, or None; then the rest is empty.
        pixel_hash: sha256 of its size and RGB pixels.
        hashes: two 64-bit difference hashes, of steps to the right and of steps down.
        mode: of the file, in Pillow's words: RGB, L, P, CMYK, ...
        kind: of the file: PNG, JPEG, ...
    """

    file_hash: bytes | None = None
    problem: str | None = None
    pixel_hash: bytes | None = None
    hashes: tuple[int, int] = (0, 0)
    width: int = 0
    height: int = 0
    mode: str = ""
    kind: str = ""


@dataclass(frozen=True)
class ImageScan:
    """The different pictures of a table.

    Attributes:
        pictures: U.
        picture: (N,) which one each row has.
    """

    pictures: list[Picture]
    picture: np.ndarray


def scan_images(
    images: Sequence[bytes], rows: np.ndarray, progress: Callable[[str, int, int], None] | None = None
) -> ImageScan:
    """Decodes the images of these rows.

    Args:
        images: of the whole table.
        rows: (N,) which to look at.
        progress: called with 'images', how many are done and how many there are.
    """
    names: Sequence[str] | None = images.names if isinstance(images, ImageFiles) else None
    known: dict[str | bytes, int] = {}
    waiting: deque[tuple[int, Future[Picture]]] = deque()
    pictures: list[Picture] = []
    picture = np.empty(len(rows), np.int64)
    num_threads = min(os.cpu_count() or 1, _MOST_THREADS)
    with ThreadPoolExecutor(num_threads) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of files that it reads all the same
        for at, row in enumerate(map(int, rows)):
            # Readers other than of loose files hold one open and are not for several threads: they read here.
            data = None if names is not None else _bytes_of(images, row)
            key = _key(row, data) if names is None else names[row]
            if key not in known:
                known[key] = len(pictures)
                pictures.append(Picture())  # until it is decoded
                job = pool.submit(_look, data) if names is None else pool.submit(_read_and_look, images, row)
                waiting.append((known[key], job))
            picture[at] = known[key]
            while len(waiting) > 4 * num_threads:
                place, job = waiting.popleft()
                pictures[place] = job.result()
            if progress is not None:
                progress("images", at + 1, len(rows))
        for place, job in waiting:
            pictures[place] = job.result()
    return ImageScan(pictures=pictures, picture=picture)


def _key(row: int, data: bytes | OSError | None) -> bytes | str:
    return hashlib.sha256(data).digest() if isinstance(data, bytes) else f"row {row}"


def _bytes_of(images: Sequence[bytes], row: int) -> bytes | OSError:
    try:
        return images[row]
    except OSError as error:
        return error


def _read_and_look(images: Sequence[bytes], row: int) -> Picture:
    return _look(_bytes_of(images, row))


def _look(data: bytes | OSError | None) -> Picture:
    if isinstance(data, OSError):
        reason = data.strerror or str(data)
        return Picture(problem="missing" if isinstance(data, FileNotFoundError) else f"cannot be read ({reason})")
    if not data:
        return Picture(problem="no bytes")
    file_hash = hashlib.sha256(data).digest()
    try:
        image = rgb_image(data, where="")
    except ValueError as error:
        return Picture(file_hash=file_hash, problem=str(error).removeprefix(": "))
    with Image.open(io.BytesIO(data)) as header:
        mode, kind = header.mode, header.format or ""
    pixels = hashlib.sha256(f"{image.size}".encode())
    pixels.update(image.tobytes())
    return Picture(
        file_hash=file_hash, pixel_hash=pixels.digest(), hashes=difference_hashes(image),
        width=image.width, height=image.height, mode=mode, kind=kind,
    )  # fmt: skip


def difference_hashes(image: Image.Image) -> tuple[int, int]:
    """Where the grey of 8 x 8 places falls to the right, and where it falls downwards (dHash); (0, 0) is plain."""
    grey = image.convert("L")
    right, down = (np.asarray(grey.resize(size, Image.Resampling.BOX)).astype(np.int64) for size in ((9, 8), (8, 9)))
    steps = right[:, :-1] > right[:, 1:] + _STEP, down[:-1] > down[1:] + _STEP
    return _number(steps[0]), _number(steps[1])


def _number(bits: np.ndarray) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
