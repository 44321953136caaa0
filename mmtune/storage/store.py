"""Whole objects below a URL of an object store, through pyarrow: an object is there whole, or it is not there.

S3 and Google Cloud Storage put an object in place when its upload is complete. Azure and HDFS through pyarrow show one
that is half written, so they are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.files import replacing

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCHEMES = ("s3", "gs")
MARK = ".remote"  # in a working folder: the URL of its study
_CHUNK = 8 * 2**20  # bytes


def is_url(text: object) -> bool:
    """Whether a path that a user gave is a URL."""
    return "://" in str(text)


def join(url: str, name: str) -> str:
    """The URL of ``name`` below ``url``."""
    return f"{url.rstrip('/')}/{name}"


def working_folder(url: str) -> Path:
    """Where the driver of the study at ``url`` works, and readers keep what they fetched: below ``MMTUNE_CACHE``."""
    from trainables.data.cache.store import cache_root

    url = url.rstrip("/")
    token = hashlib.sha256(url.encode()).hexdigest()[:12]
    return cache_root() / "studies" / token / url.rsplit("/", 1)[1]


def remote_of(root: Path) -> str | None:
    """The URL whose working folder ``root`` is; None of any other."""
    mark = root / MARK
    return mark.read_text(encoding="utf-8").strip() if mark.is_file() else None


def resumed_by(root: Path) -> str:
    """What ``mmtune resume`` takes for the study in ``root``: its URL, if that is a working folder, else the folder."""
    return remote_of(root) or str(root)


class Store:
    """Objects below ``url``.

    Args:
        url: s3://bucket/... or gs://bucket/...; credentials and endpoint as their own tools take them (AWS_*).

    Raises:
        ValueError: another scheme, no bucket, or one that does not answer or let us in.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        scheme, _, path = url.partition("://")
        path = path.rstrip("/")
        if scheme not in SCHEMES:
            raise ValueError(f"{url}: {scheme}:// is not supported; s3:// or gs://, or a folder")
        if not re.fullmatch(r"[\w.-]+(/[^?#]+)?", path):
            raise ValueError(f"{url}: write {scheme}://bucket/folder")
        self._base = path
        self._fs = _file_system(scheme, path.split("/")[0], url)

    def below(self, name: str) -> Store:
        """The store of a folder in this one."""
        other = object.__new__(Store)
        other.url, other._base, other._fs = join(self.url, name), f"{self._base}/{name}", self._fs
        return other

    def check(self) -> None:
        """Returns if objects can be written here.

        Raises:
            ValueError: why not.
        """
        try:
            self.put(".probe", b"")
            self.delete(".probe")
        except OSError as error:
            raise ValueError(str(error).replace(join(self.url, ".probe"), self.url)) from None

    def names(self, folder: str = "") -> list[str]:
        """Objects in ``folder``, not in folders of it."""
        from pyarrow.fs import FileSelector, FileType

        where = f"{self._base}/{folder}".rstrip("/")
        with _told(join(self.url, folder)):
            found = self._fs.get_file_info(FileSelector(where, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == FileType.File)

    def folders(self, folder: str) -> list[str]:
        """Folders in ``folder``."""
        from pyarrow.fs import FileSelector, FileType

        with _told(join(self.url, folder)):
            found = self._fs.get_file_info(FileSelector(f"{self._base}/{folder}", allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == FileType.Directory)

    def get(self, name: str) -> bytes | None:
        """An object's bytes; None if it is not there."""
        try:
            with _told(join(self.url, name)), self._fs.open_input_stream(f"{self._base}/{name}") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def put(self, name: str, data: bytes) -> None:
        """Replaces an object as a whole."""
        with _told(join(self.url, name)), self._fs.open_output_stream(f"{self._base}/{name}") as out:
            out.write(data)

    def download(self, name: str, path: Path) -> bool:
        """Replaces a file as a whole by an object; False if it is not there."""
        try:
            with _told(join(self.url, name)), self._fs.open_input_stream(f"{self._base}/{name}") as source:
                with replacing(path) as temporary, temporary.open("wb") as out:
                    while data := source.read(_CHUNK):
                        out.write(data)
        except FileNotFoundError:
            return False
        return True

    def upload(self, name: str, path: Path) -> None:
        """Replaces an object as a whole by a file."""
        with path.open("rb") as source, _told(join(self.url, name)):
            with self._fs.open_output_stream(f"{self._base}/{name}") as out:
                while data := source.read(_CHUNK):
                    out.write(data)

    def delete_folder(self, name: str) -> None:
        """Removes every object below ``name``."""
        try:
            with _told(join(self.url, name)):
                self._fs.delete_dir(f"{self._base}/{name}")
        except FileNotFoundError:
            pass

    def place(self, name: str) -> tuple[str, FileSystem]:
        """A folder as pyarrow's file system has it, and that."""
        return f"{self._base}/{name}", self._fs

    def delete(self, name: str) -> None:
        """Removes an object, if it is there."""
        try:
            with _told(join(self.url, name)):
                self._fs.delete_file(f"{self._base}/{name}")
        except FileNotFoundError:
            pass


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Has an error name the URL, in a line, as an OSError: a fault of storage."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.filename is not None:
            raise
        raise OSError(f"{url}: {_why(error)}") from error


def _why(error: BaseException) -> str:
    text = re.sub(r" \(Request ID:.*?\)", "", str(error)).splitlines()[0]
    found = re.search(r"AWS Error .*", text)
    return found[0] if found else text


def _file_system(scheme: str, bucket: str, url: str) -> FileSystem:
    from pyarrow import fs

    if scheme == "gs":
        return fs.GcsFileSystem()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    settings: dict[str, Any] = {"connect_timeout": 10, "request_timeout": 60}
    settings["retry_strategy"] = fs.AwsStandardS3RetryStrategy(max_attempts=5)
    try:
        if region is None:
            region = "us-east-1" if endpoint else fs.resolve_s3_region(bucket)
        return fs.S3FileSystem(endpoint_override=endpoint, region=region, **settings)
    except OSError as error:
        raise ValueError(f"{url}: {_why(error)}") from None
