"""Annotation files, plain or gzipped, line by line: JSON lines, CSV, and lines with a separator.

A line that cannot be read is handed to ``note`` and left out. A file that is something else, or is cut
short, is a ValueError that names file and line. All text is UTF-8, or what :mod:`lines` reads as such, unless said.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trainables.data.reading.cells import composed
from trainables.data.reading.dialect import FIELD_LIMIT, SEP_LINE, Dialect, find_dialect
from trainables.data.reading.lines import read_lines, read_text
from trainables.messages import from_known

Note = Callable[[Path, int | None, str], None]  # file, line, why

SPANS = "a quoted field that runs over several lines"


def json_lines(
    path: Path, note: Note, parse: Callable[[str], Any] = json.loads
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and the objects of a file with one JSON object a line; blank lines are nothing.

    A file that is one JSON array of objects instead is read as if each stood on a line.

    Args:
        parse: reads one line; what it raises of ValueError or RecursionError makes a broken line.

    Raises:
        ValueError: there is no JSON object in the file, or it cannot be read.
    """
    first_bad, num_good, is_first = None, 0, True
    for line, data in read_lines(path):
        if not data.strip():
            continue
        if is_first and data.lstrip().startswith(b"[") and _is_array(path):
            yield from _array_items(path)
            return
        is_first = False
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


def _is_array(path: Path) -> bool:
    """Whether the second thing in a file that begins with [ is {."""
    seen = b""
    for _, data in read_lines(path):
        seen += data.strip()
        if len(seen) > 1:
            break
    return seen[1:].lstrip().startswith(b"{")


def _array_items(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: one JSON array, {reason(error)}") from None
    decoder, at, line, last = json.JSONDecoder(), text.index("[") + 1, 1, 0
    counted = 0  # characters whose line ends are in ``line``
    while True:
        while text[at : at + 1].isspace() or text[at : at + 1] == ",":
            at += 1
        if text[at : at + 1] == "]":
            return
        line, counted = line + text.count("\n", counted, at), at
        try:
            row, at = decoder.raw_decode(text, at)
            if not isinstance(row, dict):
                raise ValueError(f"a JSON {type(row).__name__}, not an object")
        except (ValueError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else reason(error)
            raise ValueError(f"{path} line {line}: one JSON array, and broken here ({why})") from None
        last = max(line, last + 1)  # no two alike, though several may stand on a line
        yield last, row


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
        return json.loads(read_text(path), object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} line {error.lineno}: not JSON ({error.msg} at column {error.colno})") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} line {line}: not UTF-8 at byte {error.start + 1}") from None
    except RecursionError:
        raise ValueError(f"{path}: not JSON that can be read (nested too deeply)") from None


def csv_rows(
    path: Path,
    note: Note,
    *,
    required: Iterable[str] = (),
    names: Sequence[str] | None = None,
    dialect: Dialect | None = None,
    remark: Note = lambda *_: None,
    header: list[str] | None = None,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers (of a row's first line) and rows by column; fields may be quoted and span lines.

    Args:
        required: columns that must be in the header.
        names: columns of a file without a header.
        dialect: None: found out.
        remark: gets what is not usual about the file, and each row with a quoted field over several lines.
        header: gets the columns.

    Raises:
        ValueError: the header lacks a column or names one twice, or a quote is never closed.
    """
    csv.field_size_limit(FIELD_LIMIT)
    required = tuple(required)
    if dialect is None:
        dialect = Dialect() if names is not None else find_dialect(path, needed=required)
    for found in dialect.notes:
        remark(path, None, found)
    last_line = 0  # that the reader below has taken

    def lines() -> Iterator[str]:
        nonlocal last_line
        for line, data in read_lines(path):
            last_line = line
            yield data.decode("utf-8", "surrogateescape") + "\n"

    quoting = csv.QUOTE_NONE if dialect.quote is None else csv.QUOTE_MINIMAL
    reader = csv.reader(
        lines(), delimiter=dialect.separator, strict=True, quoting=quoting, quotechar=dialect.quote or '"'
    )
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
        if columns is None and fields[0] == SEP_LINE and not any(fields[1:]):
            continue
        if columns is None:
            columns = _header(path, line, [composed(name.strip()) for name in fields], required)
            if header is not None:
                header.extend(columns)
        elif len(fields) != len(columns):
            note(path, line, f"{len(fields)} fields, not {len(columns)}")
        else:
            if last_line > line:
                remark(path, line, SPANS)
            yield line, dict(zip(columns, fields, strict=True))
    if columns is None:
        raise ValueError(f"{path}: is empty")


def csv_header(path: Path, *, dialect: Dialect) -> list[str]:
    """The columns of a file with a header.

    Raises:
        ValueError: as for :func:`csv_rows`.
    """
    found: list[str] = []
    for _ in csv_rows(path, lambda *_: None, dialect=dialect, header=found):
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
