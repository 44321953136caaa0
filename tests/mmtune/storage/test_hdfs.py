"""HDFS through WebHDFS, on Hadoop's own NameNode and DataNode where they are installed: what S3 does by itself."""

from __future__ import annotations

import http.server
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow.fs import FileSelector

from mmtune.storage import webhdfs
from mmtune.storage.store import Store

WRITER = """\
import itertools, sys
from mmtune.storage.store import Store
store = Store(sys.argv[1])
for number in itertools.count(1):
    store.put("x", bytes([number % 256]) * 2**26)
"""


@pytest.fixture
def files(hdfs, hadoop, monkeypatch, tmp_path):
    """A store, and what its NameNode itself says of a folder of it: name, length, owner."""
    for name, value in hdfs.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(webhdfs, "_WAITS", ())

    def there(folder: str = "") -> list[tuple[str, int, str]]:
        found = json.loads(hadoop.ask("GET", f"/bucket/{tmp_path.name}/{folder}", "LISTSTATUS"))
        return [(each["pathSuffix"], each["length"], each["owner"]) for each in found["FileStatuses"]["FileStatus"]]

    return Store(f"{hdfs.base}/{tmp_path.name}"), there


@pytest.mark.slow
def test_of_a_writer_killed_at_any_moment_nothing_half_is_seen_and_nothing_is_left(files):
    store, there = files
    whole = bytes([0]) * 2**26
    store.put("x", whole)
    cut = 0
    for delay in (0.0, 0.03, 0.1, 0.2, 0.3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, store.url], stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not [name for name, *_ in there() if name.startswith(".part-")]:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = store.get("x")
        assert found is not None and len(found) == 2**26 and found.count(found[0]) == 2**26
        assert store.names() == ["x"]
        time.sleep(0.5)  # a DataNode closes what is left of it, as if it were whole
        cut += sum(0 < size < 2**26 for name, size, _ in there() if name != "x")
    assert cut  # else no write was met in the middle
    Store(store.url).tidy()
    assert there() == [("x", 2**26, "tests")]


def test_a_part_that_this_process_writes_now_is_left_to_it(files):
    store, there = files
    store.put("x", b"1")
    stop, failed = threading.Event(), []

    def write() -> None:
        try:
            while not stop.is_set():
                store.put("x", b"2")
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(50):
        store.tidy()
    stop.set()
    thread.join()
    assert not failed and there() == [("x", 1, "tests")]


def test_a_look_at_a_store_leaves_no_folder(files, hadoop):
    store, there = files
    store.put("x", b"")
    store.below("new/er").check()
    assert there() == [("x", 0, "tests")]
    hadoop.ask("PUT", f"/bucket/{store.url.rpartition('/')[2]}/empty", "MKDIRS", **{"user.name": "tests"})
    store.below("empty").check()
    assert [name for name, *_ in there()] == ["empty", "x"]


def test_names_as_they_are(files):
    store, there = files
    names = sorted([" a b", "100%", "a+b", "a&b=c", "a;b", "ü", *map(str, range(8))])  # the server lists five at a time
    for name in names:
        store.put(f"f/{name}", name.encode())
    assert store.names("f") == names and [store.get(f"f/{name}") for name in names] == [name.encode() for name in names]
    assert store.folders("") == ["f"] and store.names("f/ü") == [] == store.names("nothing")
    store.delete("f/100%")
    assert store.get("f/100%") is None
    store.delete_folder("f")
    store.delete_folder("f")
    assert there() == []


def test_a_file_on_its_way(files, tmp_path):
    store, _ = files
    data = os.urandom(3 * 2**20 + 7)
    Path(tmp_path, "sent").write_bytes(data)
    store.upload("x", tmp_path / "sent")
    assert store.download("x", tmp_path / "got") and Path(tmp_path, "got").read_bytes() == data
    assert not store.download("y", tmp_path / "none") and not Path(tmp_path, "none").exists()


def test_what_ray_asks_pyarrow_for(files):
    where, system = files[0].place("ray")
    system = pickle.loads(pickle.dumps(system))
    system.create_dir(f"{where}/a")
    with system.open_output_stream(f"{where}/a/x") as out:
        out.write(b"12")
        out.write(b"3")
    with system.open_input_stream(f"{where}/a/x") as source:
        assert source.read() == b"123"
    system.copy_file(f"{where}/a/x", f"{where}/a/y")
    system.move(f"{where}/a/y", f"{where}/a/x")
    found = system.get_file_info(FileSelector(where, recursive=True))
    assert [(info.path, info.size) for info in found] == [(f"{where}/a", None), (f"{where}/a/x", 3)]
    system.delete_dir_contents(where)
    assert system.get_file_info(FileSelector(where)) == []


def test_who_is_let_in(files, hdfs, hadoop, monkeypatch):
    monkeypatch.setenv("HADOOP_USER_NAME", "another")
    url = files[0].url
    with pytest.raises(ValueError) as error:
        Store(url).check()
    said = f'{url}: AccessControlException: Permission denied: user=another, access=WRITE, inode="/bucket":tests:'
    assert str(error.value).startswith(said) and "\n" not in str(error.value)
    with pytest.raises(ValueError) as error:
        Store(f"hdfs://127.0.0.1:{hadoop.rpc}/x").check()
    assert str(error.value) == (
        f"hdfs://127.0.0.1:{hadoop.rpc}/x: no WebHDFS at 127.0.0.1:{hadoop.rpc} (HTTP 404): hdfs:// takes the "
        "NameNode's HTTP port, usually 9870"
    )


@pytest.fixture
def answering(monkeypatch):
    """A server that answers what a function of the path says: status, headers, body."""
    monkeypatch.setattr(webhdfs, "_WAITS", ())
    servers = []

    def start(answer: Callable[[str], tuple[int, dict[str, str], bytes]]) -> str:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = answer(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value.format(self.headers["Host"]))
                self.end_headers()
                self.wfile.write(body)

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Answer))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_answers_that_are_refused_in_a_line(answering):
    def said(status: int, headers: dict[str, str], body: bytes = b"") -> str:
        node = answering(lambda path: (status, headers, body))
        with pytest.raises(OSError) as error:
            Store(f"hdfs://{node}/s").get("x")
        return str(error.value).removeprefix(f"hdfs://{node}/s/x: ").replace(node, "NODE")

    login = "NODE asks for a login (Kerberos, or a password), which is not supported"
    assert said(401, {"WWW-Authenticate": "Negotiate"}) == login
    assert said(307, {"Location": "https://h/"}) == "NODE sends to https://h/, and only http:// is supported"
    standby = {"RemoteException": {"exception": "StandbyException", "message": "Operation category READ\nat x"}}
    assert said(403, {}, json.dumps(standby).encode()) == "StandbyException: Operation category READ"
    cut = said(200, {"Content-Length": "9", "Location": "http://{}/"}, b"123")
    assert cut == "no WebHDFS answers at NODE: its answer ended after 3 of 9 bytes"


def test_a_datanode_that_is_silent_is_not_taken_again(answering, monkeypatch):
    """Of two, the first of which has died: once it was met, others are asked for; where there are none, it is again."""
    monkeypatch.setattr(webhdfs, "_WAITS", (0.0, 0.0, 0.0))
    asked = []

    def data_node(path: str) -> tuple[int, dict[str, str], bytes]:
        asked.append(path)
        if "OPEN" not in path:
            return 200, {}, b"found"
        if "/alone" in path and "excludedatanodes" in path:
            return 403, {}, b'{"RemoteException": {"exception": "IOException", "message": "No active nodes"}}'
        return 307, {"Location": "http://{}/" if "excludedatanodes=127.0.0.1" in path else "http://127.0.0.1:1/"}, b""

    store = Store(f"hdfs://{answering(data_node)}/s")
    assert store.get("x") == b"found" and len(asked) == 3
    asked.clear()
    with pytest.raises(OSError, match="no WebHDFS answers at 127.0.0.1:1: Connection refused"):
        store.get("alone")
    assert ["excludedatanodes" in path for path in asked] == [False, True, False, False]


def test_where_nobody_answers_nothing_is_taken_for_empty(monkeypatch):
    monkeypatch.setattr(webhdfs, "_WAITS", ())
    store = Store("hdfs://127.0.0.1:1/x")
    for ask in (store.names, store.check, store.tidy, lambda: store.get("x"), lambda: store.folders("x")):
        with pytest.raises((OSError, ValueError), match="no WebHDFS answers at 127.0.0.1:1: Connection refused"):
            ask()


@pytest.mark.parametrize("url", ["hdfs:///x", "hdfs://", "hdfs://host:/x", "hdfs://a@host/x"])
def test_urls_without_a_namenode(url):
    with pytest.raises(ValueError, match=f"^{url}: write hdfs://host:9870/folder$"):
        Store(url)


def test_the_port_that_is_usual(monkeypatch):
    """Of a name that nobody has."""
    monkeypatch.setattr(webhdfs, "_WAITS", ())
    with pytest.raises(ValueError, match="no WebHDFS answers at nothing.invalid:9870: "):
        Store("hdfs://nothing.invalid/x").check()
