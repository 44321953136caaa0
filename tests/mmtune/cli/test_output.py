"""Tables, progress, sizes and times."""

from __future__ import annotations

import os
import sys
import time

import pytest

from mmtune.cli.output import ago, print_table, progress_bar, size


def test_a_table_in_a_file_is_200_wide(capsys):
    print_table(["name", "what it is"], [["a", "x" * 150], ["bc", ""]], title="things")
    title, header, first, second = (line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert (title, header, first, second) == ("things", "name  what it is", f"a     {'x' * 150}", "bc")


def work():
    with progress_bar() as show:
        for done in range(8):
            show("images", done, 7)
        show("copies", 0, 1)


def test_progress_is_shown_on_a_terminal_alone(monkeypatch, capfd):
    work()
    assert capfd.readouterr() == ("", "")
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", terminal)
        work()
        terminal.flush()
        shown = b""
        while b"0/1" not in shown:
            shown += os.read(ours, 2**16)
    os.close(ours)
    assert b"images" in shown and b"7/7" in shown and b"copies" in shown
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "num_bytes, text", [(0, "0.0 MiB"), (3 * 2**19, "1.5 MiB"), (2**30 - 1, "1024.0 MiB"), (5 * 2**28, "1.25 GiB")]
)
def test_size(num_bytes, text):
    assert size(num_bytes) == text


@pytest.mark.parametrize(
    "hours, text", [(0.5, "just now"), (1.1, "1 hours ago"), (47, "47 hours ago"), (49, "2 days ago")]
)
def test_ago(hours, text):
    assert ago(time.time() - 3600 * hours) == text


def test_brackets_in_a_cell_are_no_markup(capsys):
    print_table(["key", "what it is"], [["[family]", "{type: categorical, choices: [text, image]}"]])
    assert "[family]" in (out := capsys.readouterr().out) and "choices: [text, image]}" in out
