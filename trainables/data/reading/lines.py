"""Text files of any system as lines: plain or gzipped, with LF, CR LF or CR alone, UTF-8 or (by its mark) UTF-16 or 32.

A byte order mark is skipped. What is no text at all is a ValueError that says what it is.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

_MARKS = (  # the longer ones first: UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF8, None),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BLOCK = 2**20  # bytes
_MANY_ZEROS = 0.2  # of the bytes: no text that is a byte a character


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers from 1 and lines without their end, in UTF-8 where the file has a mark; ``.gz`` is unpacked.

    Raises:
        ValueError: the file cannot be opened, is no text, or is no gzip file or not all of one.
    """
    line = 0
    try:
        with _open(path) as file:
            head = file.read(_BLOCK)
            file.seek(0)
            for line, data in enumerate(_split(path, file, head), 1):
                yield line, data.rstrip(b"\r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} line {line + 1}: the gzip file is cut short or broken ({error})") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None


def read_text(path: Path) -> str:
    """A whole file, its line ends as ``\\n``.

    Raises:
        ValueError: as for :func:`read_lines`; UnicodeDecodeError where it is not UTF-8.
    """
    return b"\n".join(data for _, data in read_lines(path)).decode("utf-8")


def is_kind(path: Path, suffix: str) -> bool:
    """Whether a file's name ends in ``suffix``, or in ``suffix`` and .gz; capitals count as small letters."""
    return path.name.lower().removesuffix(".gz").endswith(suffix)


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else open(path, "rb")


def _split(path: Path, file: BinaryIO, head: bytes) -> Iterator[bytes]:
    mark, encoding = next(((mark, name) for mark, name in _MARKS if head.startswith(mark)), (b"", None))
    if encoding is None:
        if head.startswith(b"PK\x03\x04"):
            raise ValueError(f"{path}: is a zip archive (as .xlsx and .ods files are), not text")
        if head.count(0) > _MANY_ZEROS * len(head):
            raise ValueError(f"{path}: is not text, or UTF-16 without a byte order mark; save it as UTF-8")
        while head.startswith(codecs.BOM_UTF8):  # some tools put a second one before the first
            file.read(len(mark))
            head = head[len(mark) :]
    start = head if encoding is None else head.decode(encoding, "ignore").encode()
    has_only_cr = start.count(b"\r") - start.count(b"\r\n") > start.count(b"\n")
    if encoding is None and not has_only_cr:
        yield from file
        return
    try:
        yield from _blockwise(file, encoding, has_only_cr)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: begins as {encoding} and is not ({error.reason})") from None


def _blockwise(file: BinaryIO, encoding: str | None, has_only_cr: bool) -> Iterator[bytes]:
    decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)()
    rest, is_last = b"", False
    while not is_last:
        block = file.read(_BLOCK)
        is_last = not block
        data = rest + (block if decoder is None else decoder.decode(block, is_last).encode("utf-8", "replace"))
        held = b"\r" if has_only_cr and data.endswith(b"\r") and not is_last else b""  # a \n may follow
        data = data.removesuffix(held)
        if has_only_cr:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = data.split(b"\n")
        yield from lines
        rest += held
    if rest:
        yield rest
