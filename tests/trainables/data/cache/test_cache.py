import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from trainables.data.cache.store import build_if_free, build_once, entries, meta, remove

ROOT = Path(__file__).parents[4]
BUILDER = """
import os, sys, time
from pathlib import Path
from trainables.data.cache.store import build_once

def build(folder):
    (folder / "half").write_text("x")
    with open(os.environ["LOG"], "a") as log:
        log.write("built\\n")
    time.sleep(float(os.environ["SECONDS"]))
    (folder / "whole").write_text("y")
    return {"by": os.getpid()}

if os.environ["UNPRIVILEGED"] and os.getuid() == 0:  # nothing is read-only to root
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(build_once("things", {"name": "one"}, build))
"""


def start(cache, log, *, seconds, unprivileged=""):
    env = {"PYTHONPATH": str(ROOT), "MMTUNE_CACHE": str(cache), "LOG": str(log), "SECONDS": str(seconds)}
    env = {**os.environ, **env, "UNPRIVILEGED": unprivileged}
    command = [sys.executable, "-c", BUILDER]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_killed_builder_leaves_nothing_that_is_used(tmp_path):
    cache, log = tmp_path / "cache", tmp_path / "log"
    first = start(cache, log, seconds=60)
    wait_for(lambda: log.exists())
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert [folder.name.count(".tmp-") for folder in cache.glob("things/*") if folder.is_dir()] == [1]
    second = start(cache, log, seconds=0)  # the kernel has dropped the dead one's lock
    out, error = second.communicate(timeout=300)
    assert second.returncode == 0, error
    folder = Path(out.strip())
    assert sorted(path.name for path in folder.iterdir()) == ["half", "meta.json", "whole"]
    assert [path for path in cache.glob("things/*") if path.is_dir()] == [folder]


@pytest.mark.slow
def test_two_processes_build_once(tmp_path):
    cache, log = tmp_path / "cache", tmp_path / "log"
    both = [start(cache, log, seconds=0.5) for _ in range(2)]
    outs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert outs[0][0] == outs[1][0]
    assert log.read_text() == "built\n"


def test_a_read_only_cache_is_one_clear_error_and_still_serves_what_it_holds():
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is closed to everybody else
        os.chmod(folder, 0o755)
        cache, log = Path(folder) / "cache", Path(folder) / "log"
        cache.mkdir(mode=0o555)
        log.touch()
        log.chmod(0o666)
        _, error = start(cache, log, seconds=0, unprivileged="yes").communicate(timeout=300)
        said = f"cache folder {cache} cannot be written (Permission denied); set MMTUNE_CACHE"
        assert error.strip().splitlines()[-1] == f"trainables.errors.StorageError: {said}"
        cache.chmod(0o755)
        start(cache, log, seconds=0).communicate(timeout=300)
        for path in (cache, cache / "things"):
            path.chmod(0o555)
        reader = start(cache, log, seconds=0, unprivileged="yes")
        _, error = reader.communicate(timeout=300)
        assert reader.returncode == 0, error
        assert log.read_text() == "built\n"
        for path in (cache, cache / "things"):
            path.chmod(0o755)


def test_a_file_where_the_cache_should_be_is_one_clear_error(empty):
    empty.write_text("not a folder")
    with pytest.raises(ValueError, match=r"cache folder .*cache cannot be written \(.*\); set MMTUNE_CACHE"):
        build_once("things", {}, lambda folder: {})


def test_a_failing_builder_leaves_nothing(empty):
    def build(folder):
        (folder / "half").write_text("x")
        raise KeyError("no such column")

    with pytest.raises(KeyError):
        build_once("things", {"name": "one"}, build)
    assert [path for path in empty.glob("things/*") if path.is_dir()] == []


def test_a_folder_belongs_to_its_key(empty):
    calls = []

    def build(folder):
        calls.append(folder)
        return {"number": len(calls)}

    one = build_once("things", {"a": 1, "b": [2]}, build)
    assert build_once("things", {"b": [2], "a": 1}, build) == one and len(calls) == 1
    assert build_once("things", {"a": 1, "b": [3]}, build) != one
    assert build_once("others", {"a": 1, "b": [2]}, build) != one
    assert meta(one)["number"] == 1 and json.loads((one / "meta.json").read_text())["key"]["b"] == [2]


# --- checksums, listing, removing ----------------------------------------------------------------
def numbers(folder):
    (folder / "values").write_bytes(bytes(range(100)))
    return {"about": "a hundred bytes"}


def test_a_damaged_folder_is_built_again(empty):
    folder = build_once("things", {"name": "one"}, numbers)
    values = folder / "values"
    for damage in (lambda: values.write_bytes(bytes(100)), values.unlink, lambda: values.write_bytes(b"")):
        damage()
        with pytest.warns(UserWarning, match="values is damaged; it is built again"):
            assert build_once("things", {"name": "one"}, numbers) == folder
        assert values.read_bytes() == bytes(range(100))
    (folder / "meta.json").write_text("{")
    with pytest.warns(UserWarning, match="meta.json is damaged"):
        build_once("things", {"name": "one"}, numbers)
    assert meta(folder)["about"] == "a hundred bytes"


def test_what_only_looks_changed_is_compared_and_kept(empty):
    folder = build_once("things", {"name": "one"}, numbers)
    os.utime(folder / "values", (1, 1))  # copied to another machine, say
    assert build_once("things", {"name": "one"}, lambda folder: pytest.fail("built again")) == folder
    (folder.parent / f"{folder.name}.intact").unlink()
    assert build_once("things", {"name": "one"}, lambda folder: pytest.fail("built again")) == folder
    assert (folder.parent / f"{folder.name}.intact").exists()


def test_the_cache_lists_and_removes_what_it_holds(empty, tmp_path):
    small = build_once("things", {"name": "small"}, lambda folder: {})
    large = build_once("others", {"name": "large"}, numbers)
    half = empty / "things" / f"{'0' * 20}.tmp-12345678"
    half.mkdir()
    (half / "part").write_bytes(bytes(10))
    found = {entry.path: entry for entry in entries()}
    assert {path: entry.kind for path, entry in found.items()} == {small: "things", large: "others", half: "unfinished"}
    assert found[large].about == "a hundred bytes" and found[half].num_bytes == 10
    assert found[large].num_bytes == sum(file.stat().st_size for file in large.iterdir())
    assert abs(found[large].used - time.time()) < 60
    assert all(remove(path) for path in found)
    assert entries() == [] and not list(empty.rglob("values"))


@pytest.mark.slow
def test_what_is_being_built_is_not_removed(tmp_path, monkeypatch):
    cache, log = tmp_path / "cache", tmp_path / "log"
    monkeypatch.setenv("MMTUNE_CACHE", str(cache))
    builder = start(cache, log, seconds=2)
    wait_for(lambda: log.exists())
    (entry,) = entries()
    assert entry.kind == "unfinished" and not remove(entry.path)
    assert build_if_free("things", {"name": "one"}, numbers) is None
    out, error = builder.communicate(timeout=300)
    assert builder.returncode == 0, error
    assert [entry.kind for entry in entries()] == ["things"]
