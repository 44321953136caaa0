"""What a :class:`mmtune.storage.store.Store` reads and writes whole objects through, by the scheme of its URL.

S3 and Google Cloud Storage put an object in place when its stream is closed, so pyarrow's streams do. Through those a
blob of Azure is seen empty before it is whole: there fsspec's adlfs hands it to the service in one call. A file of HDFS
too, and there is no such call: :mod:`mmtune.storage.webhdfs`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_CHUNK = 8 * 2**20  # bytes
_CONNECT_SECONDS = 10


class Objects(Protocol):
    """Objects by their path, the bucket first; FileNotFoundError where there is none."""

    fs: FileSystem
    """Lists and deletes."""

    def read(self, path: str) -> bytes: ...
    def write(self, path: str, data: bytes) -> None:
        """Replaces it as a whole."""

    def fetch(self, path: str, file: Path) -> None:
        """Writes it into a file."""

    def send(self, path: str, file: Path) -> None:
        """Replaces it as a whole by a file."""

    def probe(self, folder: str) -> None:
        """Writes into a folder, and takes it back."""
        self.write(f"{folder}/.probe", b"")
        with contextlib.suppress(FileNotFoundError):  # another's, that did the same
            self.fs.delete_file(f"{folder}/.probe")

    def tidy(self, folder: str) -> None:
        """Removes what killed writers have left below a folder, where a store has not done so itself."""


class Streams(Objects):
    """Through pyarrow."""

    def __init__(self, fs: FileSystem) -> None:
        self.fs = fs

    def read(self, path: str) -> bytes:
        with self.fs.open_input_stream(path) as source:
            return source.read()

    def write(self, path: str, data: bytes) -> None:
        with self.fs.open_output_stream(path) as out:
            out.write(data)

    def fetch(self, path: str, file: Path) -> None:
        with self.fs.open_input_stream(path) as source, file.open("wb") as out:
            shutil.copyfileobj(source, out, _CHUNK)

    def send(self, path: str, file: Path) -> None:
        with file.open("rb") as source, self.fs.open_output_stream(path) as out:
            shutil.copyfileobj(source, out, _CHUNK)


class Blobs(Objects):
    """Azure's, through adlfs."""

    def __init__(self) -> None:
        from adlfs import AzureBlobFileSystem
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        self._blobs: Any = AzureBlobFileSystem(anon=False, use_listings_cache=False, skip_instance_cache=True)
        _reach(self._blobs.service_client.url)
        self.fs = PyFileSystem(FSSpecHandler(self._blobs))

    def read(self, path: str) -> bytes:
        return self._blobs.cat_file(path)

    def write(self, path: str, data: bytes) -> None:
        self._blobs.pipe_file(path, data)

    def fetch(self, path: str, file: Path) -> None:
        self._blobs.get_file(path, file)

    def send(self, path: str, file: Path) -> None:
        self._blobs.put_file(file, path)


def _reach(url: str) -> None:
    """Connects once: Azure's package tries for over a minute before it says that nothing is there."""
    parts = urlsplit(url)
    host = parts.hostname
    if not host or (parts.scheme in getproxies() and not proxy_bypass(parts.netloc)):
        return
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except OSError as error:
        raise OSError(f"no blob service answers at {host}:{port}: {error.strerror or error}") from None


def objects(scheme: str, bucket: str) -> Objects:
    """The objects of a scheme; credentials and endpoint as its own tools take them from the environment.

    Args:
        scheme: of :data:`mmtune.storage.store.SCHEMES`.
        bucket: or container; of HDFS the NameNode.

    Raises:
        ValueError: what a scheme needs is not installed.
        OSError: the bucket does not answer.
    """
    from pyarrow import fs

    if scheme == "hdfs":
        from mmtune.storage.webhdfs import WebHdfs

        return WebHdfs(bucket)
    if scheme == "az":
        try:
            return Blobs()
        except ImportError:
            raise ValueError("az:// needs adlfs: pip install 'mmtune[azure]'") from None
    if scheme == "gs":
        return Streams(fs.GcsFileSystem())
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    settings: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS, "request_timeout": 60}
    settings["retry_strategy"] = fs.AwsStandardS3RetryStrategy(max_attempts=5)
    if region is None:
        region = "us-east-1" if endpoint else fs.resolve_s3_region(bucket)
    return Streams(fs.S3FileSystem(endpoint_override=endpoint, region=region, **settings))
