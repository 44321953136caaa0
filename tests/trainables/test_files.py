"""Write then rename: whole or not at all, with the mode of any file, and nothing left beside it."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

from trainables.files import append, checksum, file_hash, replacing, unfinished, write_atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_write_atomic(tmp_path):
    path = tmp_path / "deep" / "x.txt"
    write_atomic(path, "ä")
    assert path.read_bytes() == "ä".encode()
    write_atomic(path, b"b")
    assert path.read_bytes() == b"b" and path.stat().st_mode & 0o777 == 0o644
    (tmp_path / "folder").mkdir()
    for target, data in [(tmp_path / "folder", "x"), (tmp_path / "new", 3), (path, "\ud800")]:
        with pytest.raises((OSError, TypeError, UnicodeError)):
            write_atomic(target, data)  # type: ignore[arg-type]
    assert names(tmp_path) == ["deep", "folder"] and names(path.parent) == ["x.txt"] and path.read_bytes() == b"b"


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_mode_is_that_of_any_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "x") as temporary:  # as libraries write that go through a private file of their own
            temporary.unlink()
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        (tmp_path / "neighbour").touch()
    finally:
        os.umask(before)
    modes = {(tmp_path / name).stat().st_mode & 0o777 for name in ("x", "neighbour")}
    assert modes == {mode}


def test_replacing_takes_the_name_at_the_end(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == tmp_path and temporary.match(".x.*.tmp")
    assert path.read_text() == "new" and names(tmp_path) == ["x"]
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "new" and names(tmp_path) == ["x"]


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    code = (
        "import os, signal, sys; from trainables.files import replacing\n"
        "with replacing(sys.argv[1]) as file: file.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -signal.SIGKILL
    assert path.read_text() == "old" and len(list(tmp_path.glob(".x.*.tmp"))) == 1


@pytest.mark.slow  # imports torch
def test_what_a_kill_inside_of_safetensors_leaves_is_found(tmp_path):
    """It writes to a file of its own beside the one that it is given, which a kill leaves under a name of its own."""
    path = tmp_path / "x.safetensors"
    code = (
        "import sys, torch; from safetensors.torch import save_file; from trainables.files import replacing\n"
        "tensors = {'a': torch.zeros(50_000_000)}\nprint('now', flush=True)\n"
        "while True:\n    with replacing(sys.argv[1]) as file: save_file(tensors, file)"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        deadline = time.monotonic() + 60
        while not any(re.fullmatch(r"\.tmp\w{6}", name) for name in names(tmp_path)):
            assert time.monotonic() < deadline and process.poll() is None
        process.kill()
    left = {file.name for file in unfinished(tmp_path)}
    assert any(re.fullmatch(r"\.tmp\w{6}", name) for name in left)
    assert set(names(tmp_path)) - left <= {path.name}


@contextlib.contextmanager
def no_file_above(size):
    """As on a full disk: a write is cut short, the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_cannot_be_appended_whole_is_taken_back(tmp_path):
    path, old = tmp_path / "x", b"a" * 2**20 + b"\n"
    path.write_bytes(old)
    with no_file_above(len(old) + 10), pytest.raises(OSError, match="File too large") as caught:
        append(path, b"b" * 11)
    assert path.read_bytes() == old and caught.value.filename == str(path)
    append(path, b"c\n")
    assert path.read_bytes() == old + b"c\n"
    with pytest.raises(FileNotFoundError):
        append(tmp_path / "none", b"c")
    assert names(tmp_path) == ["x"]


def test_a_write_that_fails_names_its_file(tmp_path):
    with no_file_above(2**20), pytest.raises(OSError, match="File too large") as caught:
        write_atomic(tmp_path / "x", b"a" * (2**20 + 1))
    assert caught.value.filename == str(tmp_path / "x") and not names(tmp_path)


def test_hashes_follow_the_bytes(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    first = file_hash(file)
    assert first == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"  # sha256 of "one"
    file.write_bytes(b"three")
    assert file_hash(file) == checksum(file) != first


def test_a_hash_is_remembered_and_a_checksum_is_not(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    facts, first = file.stat(), file_hash(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert file_hash(file) == first != checksum(file)
