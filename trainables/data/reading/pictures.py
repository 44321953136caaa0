"""An image file's bytes as the pixels that a person sees: turned as the camera says, grey of any depth on 0 to 255."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from trainables.imagefit import ImageFit

# What Pillow raises for bytes that are no image, or not all of one.
_UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
_GREY = (128, 128, 128)  # about 0 after normalisation


def decode_image(data: bytes, *, size: int, fit: ImageFit = "crop", where: str) -> np.ndarray:
    """An image file's bytes as uint8 RGB (3, size, size), bicubic, transparency on white.

    Args:
        size: pixels a side.
        fit: what becomes of a picture that is not square: 'crop' takes its middle square, 'pad' lays all of it on
            the middle of a grey square, 'stretch' gives both sides the same length.

    Raises:
        ValueError: the bytes are no image, or not all of one; ``where`` is named.
    """
    image = rgb_image(data, where=where)
    if fit == "pad":
        longest = max(image.size)
        width, height = (max(1, round(size * side / longest)) for side in image.size)
        square = Image.new("RGB", (size, size), _GREY)
        inner = image.resize((width, height), Image.Resampling.BICUBIC)
        square.paste(inner, ((size - width) // 2, (size - height) // 2))
    elif fit == "stretch":
        square = image.resize((size, size), Image.Resampling.BICUBIC)
    else:
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        square = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(square).transpose(2, 0, 1)


def rgb_image(data: bytes, *, where: str) -> Image.Image:
    """An image file's bytes as an RGB image: EXIF's orientation applied, transparency on white, the first frame.

    Grey of 16 bits spans 0 to 65535. Integers of 32 bits and floats have no range of their own: they span 0 to 1
    (floats), 255, 65535 or 2^31 - 1, the smallest that holds the picture; floats below 0 or above that are stretched
    from their smallest to their largest value.

    Raises:
        ValueError: the bytes are no image, or not all of one; ``where`` is named.
    """
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except _UNDECODABLE as error:
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else error  # whose text has an address
        raise ValueError(f"{where}: the image cannot be decoded ({reason})") from None
    with suppress(*_UNDECODABLE):  # of broken EXIF data the pixels are still a picture
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own conversion cuts everything above 255 off
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey, or grey with transparency where one level is transparent."""
    levels = np.asarray(image).astype(np.float64)
    grey = Image.fromarray(np.rint(_share_of_white(levels, image.mode) * 255).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)))
    return grey


def _share_of_white(levels: np.ndarray, mode: str) -> np.ndarray:
    """0 is black and 1 white."""
    levels = np.where(np.isfinite(levels), levels, 0)
    least, most = (float(levels.min()), float(levels.max())) if levels.size else (0.0, 0.0)
    if mode.startswith("I;16"):
        return levels / 65535
    if mode == "F" and (least < 0 or most > 65535):
        return (levels - least) / max(most - least, 1e-12)
    ranges = ([1] if mode == "F" else []) + [255, 65535, 2**31 - 1]
    return levels.clip(0) / next(top for top in ranges if most <= top)
