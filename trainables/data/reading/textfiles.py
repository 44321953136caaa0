"""Annotation files, plain or gzipped, line by line: JSON lines, CSV, and lines with a separator.

A line that cannot be read is handed to ``note`` and left out. A file that is something else, or is cut
short, is a ValueError that names file and line. All text is UTF-8 (a byte order mark is skipped) unless said.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from trainables.messages import from_known

Note = Callable[[Path, int | None, str], None]  # file, line, why

_BOM = b"\xef\xbb\xbf"
_FIELD_LIMIT = 10_000_000  # characters; the default of 131,072 is less than a long article


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers from 1 and lines without their end; ``.gz`` is unpacked on the way.

    Raises:
        ValueError: the file cannot be opened, or is no gzip file or not all of one.
    """
    line = 0
    try:
        with _open(path) as file:
            for line, data in enumerate(file, 1):
                yield line, (data.removeprefix(_BOM) if line == 1 else data).rstrip(b"\r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} line {line + 1}: the gzip file is cut short or broken ({error})") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else open(path, "rb")


def json_lines(
    path: Path, note: Note, parse: Callable[[str], Any] = json.loads
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and the objects of a file with one JSON object a line; blank lines are nothing.

    Args:
        parse: reads one line; what it raises of ValueError or RecursionError makes a broken line.

    Raises:
        ValueError: there is no JSON object in the file, or it cannot be read.
    """
    first_bad, num_good = None, 0
    for line, data in read_lines(path):
        if not data.strip():
            continue
        try:
            row = parse(data.decode("utf-8"))
            if not isinstance(row, dict):
                raise ValueError(f"a JSON {type(row).__name__}, not an object")
        except (ValueError, RecursionError, MemoryError) as error:
            first_bad = first_bad or (line, reason(error))
            note(path, line, f"not a JSON object ({reason(error)})")
        else:
            num_good += 1
            yield line, row
    if first_bad and not num_good:
        raise ValueError(f"{path} line {first_bad[0]}: not a file of JSON lines ({first_bad[1]})")


def reason(error: BaseException) -> str:
    """What a parser has to say, in a few words."""
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start + 1}"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError | MemoryError) else str(error)


def json_document(path: Path, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """A file that is one JSON value.

    Args:
        object_hook: makes something smaller of each object as soon as it is read.

    Raises:
        ValueError: it is not JSON, or not all of it.
    """
    try:
        return json.loads(path.read_bytes().removeprefix(_BOM).decode("utf-8"), object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} line {error.lineno}: not JSON ({error.msg} at column {error.colno})") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} line {line}: not UTF-8 at byte {error.start + 1}") from None
    except RecursionError:
        raise ValueError(f"{path}: not JSON that can be read (nested too deeply)") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None


def csv_rows(
    path: Path,
    note: Note,
    *,
    required: Iterable[str] = (),
    names: Sequence[str] | None = None,
    delimiter: str = ",",
    header: list[str] | None = None,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers (of a row's first line) and rows by column; fields may be quoted and span lines.

    Args:
        required: columns that must be in the header.
        names: columns of a file without a header.
        header: gets the columns.

    Raises:
        ValueError: the header lacks a column or names one twice, or a quote is never closed.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    last_line = 0  # that the reader below has taken

    def lines() -> Iterator[str]:
        nonlocal last_line
        for line, data in read_lines(path):
            last_line = line
            yield data.decode("utf-8", "surrogateescape") + "\n"

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    columns = None if names is None else list(names)
    while True:
        line = last_line + 1
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if "unexpected end" in str(error) or "limit" in str(error):
                raise ValueError(f"{path} line {line}: a quote is opened here and never closed") from None
            note(path, line, f"not CSV ({error})")
            continue
        if not fields:
            continue
        try:
            "".join(fields).encode("utf-8")
        except UnicodeEncodeError:
            if columns is None:
                raise ValueError(f"{path} line {line}: not UTF-8") from None
            note(path, line, "not UTF-8")
            continue
        if columns is None:
            columns = _header(path, line, [name.strip() for name in fields], required)
            if header is not None:
                header.extend(columns)
        elif len(fields) != len(columns):
            note(path, line, f"{len(fields)} fields, not {len(columns)}")
        else:
            yield line, dict(zip(columns, fields, strict=True))
    if columns is None:
        raise ValueError(f"{path}: is empty")


def csv_header(path: Path, *, delimiter: str = ",") -> list[str]:
    """The columns of a file with a header.

    Raises:
        ValueError: as for :func:`csv_rows`.
    """
    found: list[str] = []
    for _ in csv_rows(path, lambda *_: None, delimiter=delimiter, header=found):
        break
    return found


def _header(path: Path, line: int, columns: list[str], required: Iterable[str]) -> list[str]:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ValueError(f"{path} line {line}: column {twice[0]!r} is named twice")
    for name in required:
        if name not in columns:
            raise ValueError(f"{path} line {line}: no column {name!r}{from_known(name, columns)}")
    return columns


def separated_lines(
    path: Path, note: Note, *, separator: str, num_fields: int, encoding: str = "utf-8"
) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and the fields of lines such as ``1::Toy Story (1995)::Comedy``, without quotes or header.

    Raises:
        ValueError: no line has ``num_fields`` fields.
    """
    first_bad, num_good = None, 0
    for line, data in read_lines(path):
        if not data.strip():
            continue
        try:
            fields = data.decode(encoding).split(separator)
            if len(fields) != num_fields:
                raise ValueError(f"{len(fields)} fields between {separator!r}, not {num_fields}")
        except ValueError as error:
            first_bad = first_bad or (line, reason(error))
            note(path, line, reason(error))
        else:
            num_good += 1
            yield line, fields
    if first_bad and not num_good:
        raise ValueError(f"{path} line {first_bad[0]}: {first_bad[1]}")
