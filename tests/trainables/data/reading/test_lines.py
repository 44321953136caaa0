import codecs
import gzip
import re

import pytest

from trainables.data.reading.lines import read_lines, read_text

LINES = ["t,y", "caf\u00e9 \u2028 x,1", "", "\U0001f600,0"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("has_last", [False, True])
@pytest.mark.parametrize(
    "encoding, mark",
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
        ("utf-32-be", codecs.BOM_UTF32_BE),
    ],
)
def test_every_system_writes_the_same_lines(tmp_path, end, is_packed, has_last, encoding, mark):
    data = mark + (end.join(LINES) + end * has_last).encode(encoding)
    path = tmp_path / ("a.csv" + ".GZ" * is_packed)
    path.write_bytes(gzip.compress(data) if is_packed else data)
    assert [(line, text.decode()) for line, text in read_lines(path)] == [*enumerate(LINES, 1)]
    assert read_text(path) == "\n".join(LINES)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_long_files(tmp_path, end, encoding):
    lines = [f"{at} " + "x" * (at % 97) for at in range(40_000)]  # the ends of blocks fall anywhere
    (tmp_path / "a").write_bytes(end.join(lines).encode(encoding))
    assert [text.decode() for _, text in read_lines(tmp_path / "a")] == lines


def test_a_carriage_return_within_a_text_ends_no_line(tmp_path):
    (tmp_path / "a").write_bytes(b"x\na\rb\nc\n")
    assert [text for _, text in read_lines(tmp_path / "a")] == [b"x", b"a\rb", b"c"]


@pytest.mark.parametrize(
    "data, message",
    [
        ("a,b\n1,2\n".encode("utf-16-le"), "is not text, or UTF-16 without a byte order mark; save it as UTF-8"),
        (b"PK\x03\x04" + b"x" * 50, "is a zip archive (as .xlsx and .ods files are), not text"),
        (codecs.BOM_UTF16_LE + b"a\0b", "begins as utf-16 and is not (truncated data)"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, data, message):
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(f"a.csv: {message}")):
        list(read_lines(tmp_path / "a.csv"))
