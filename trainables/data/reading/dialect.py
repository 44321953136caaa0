"""What stands between the fields of a CSV or TSV file, and whether its quotation marks mean anything.

The separator is the comma (of .tsv files the tab), unless the columns that are needed stand between other ones. Quotes
hold a field together in CSV. In TSV they do so only where each is closed on its own line, or where lines would not
have the header's number of fields otherwise: an unquoted TSV in which a text begins with a quotation mark must not
lose the rows down to the next one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainables.data.reading.cells import composed
from trainables.data.reading.lines import is_kind, read_lines

FIELD_LIMIT = 10_000_000  # characters; the default of 131,072 is less than a long article
SEP_LINE = "sep="  # Excel's first line of a CSV file, and then the separator
_SEPARATORS = (",", ";", "\t", "|")
_CLOSED = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)


@dataclass(frozen=True)
class Dialect:
    """How fields are told apart.

    Attributes:
        separator: one character.
        quote: what fields may stand between; None: nothing.
        notes: what was found that is not usual.
    """

    separator: str = ","
    quote: str | None = '"'
    notes: tuple[str, ...] = ()


def find_dialect(
    path: Path, *, needed: Collection[str] = (), separator: str | None = None, quote: str | bool | None = None
) -> Dialect:
    """How a file with a header is read.

    Args:
        needed: columns that have to be there.
        separator: None: found out.
        quote: a character; False is no quoting, True is ``"``, None: found out.

    Raises:
        ValueError: the file cannot be read.
    """
    notes = []
    usual = "\t" if is_kind(path, ".tsv") else ","
    if separator is None:
        header = _header(path)
        separator = usual
        if header.startswith(SEP_LINE) and len(header) == len(SEP_LINE) + 1:
            return find_dialect(path, separator=header[-1], quote=quote)
        if needed and not _has(header, usual, needed):
            separator = next((one for one in _SEPARATORS if _has(header, one, needed)), usual)
        if separator != usual:
            notes.append(f"{path.name}: fields stand between {separator!r}")
    if quote is None and usual == separator == "\t":
        quote, note = _tsv_quote(path)
        notes += [] if note is None else [note]
    mark = '"' if quote is None or quote is True else None if quote is False else quote
    return Dialect(separator, mark, tuple(notes))


def _header(path: Path) -> str:
    return next((data.decode("utf-8", "replace").strip("\n\r ") for _, data in read_lines(path) if data.strip()), "")


def _has(header: str, separator: str, needed: Collection[str]) -> bool:
    found = next(csv.reader([header], delimiter=separator), [])
    return {*map(composed, needed)} <= {composed(name.strip()) for name in found}


def _tsv_quote(path: Path) -> tuple[str | bool, str | None]:
    """Whether a file between tabs is quoted."""
    width, misfits, num_open, first = 0, 0, 0, 0
    for line, data in read_lines(path):
        if not data.strip():
            continue
        width = width or data.count(b"\t") + 1
        misfits += data.count(b"\t") + 1 != width
        if b'"' in data:
            fields = data.decode("utf-8", "replace").split("\t")
            unclosed = sum(field.startswith('"') and not _CLOSED.fullmatch(field) for field in fields)
            num_open, first = num_open + unclosed, first or (line if unclosed else 0)
    if not num_open or (misfits and _quoted_misfits(path, width) < misfits):
        return True, None
    fields = f"{num_open:,} field{'s' * (num_open != 1)} with a quotation mark that is not closed"
    return False, f"{path.name}: {fields}, first line {first}: read without quotes, each line is a row"


def _quoted_misfits(path: Path, width: int) -> int:
    csv.field_size_limit(FIELD_LIMIT)

    def lines() -> Iterator[str]:
        for _, data in read_lines(path):
            yield data.decode("utf-8", "replace") + "\n"

    reader, misfits = csv.reader(lines(), delimiter="\t", strict=True), 0
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return misfits
        except csv.Error as error:
            misfits += 1
            if "unexpected end" in str(error) or "limit" in str(error):
                return misfits + 10**9  # not all of the file could be read so
            continue
        misfits += bool(fields) and len(fields) != width
