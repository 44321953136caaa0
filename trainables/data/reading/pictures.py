"""An image file's bytes as pixels."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

# What Pillow raises for bytes that are no image, or not all of one.
_UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


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
