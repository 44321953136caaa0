"""Whole objects below a URL of an object store: an object is there whole, or it is not there."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.storage.objects import objects
from trainables.files import replacing

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCHEMES = {"s3": "bucket", "gs": "bucket", "az": "container", "hdfs": "host:9870"}  # and what is named first
MARK = ".remote"  # in a working folder: the URL of its study


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
        url: s3://bucket/..., gs://bucket/..., az://container/... or hdfs://host:9870/..., the HTTP port of HDFS's
            NameNode; credentials and endpoint as their own tools take them (AWS_*, GOOGLE_*, AZURE_STORAGE_*,
            HADOOP_USER_NAME).

    Raises:
        ValueError: another scheme, no bucket, or one that does not answer or let us in.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        scheme, _, path = url.partition("://")
        path = path.rstrip("/")
        if scheme not in SCHEMES:
            raise ValueError(f"{url}: {scheme}:// is not supported; s3://, gs://, az:// or hdfs://, or a folder")
        port = r"(:\d+)?" if ":" in SCHEMES[scheme] else ""
        if not re.fullmatch(rf"[\w.-]+{port}(/[^?#]+)?", path):
            raise ValueError(f"{url}: write {scheme}://{SCHEMES[scheme]}/folder")
        self._base = path
        try:
            with _told(self.url):
                self._objects = objects(scheme, path.split("/")[0])
        except OSError as error:
            raise ValueError(str(error)) from None

    def below(self, name: str) -> Store:
        """The store of a folder in this one."""
        other = object.__new__(Store)
        other.url, other._base, other._objects = join(self.url, name), f"{self._base}/{name}", self._objects
        return other

    def check(self) -> None:
        """Returns if objects can be written here.

        Raises:
            ValueError: why not.
        """
        try:
            with _told(self.url):
                self._objects.probe(self._base)
        except OSError as error:
            raise ValueError(str(error)) from None

    def tidy(self) -> None:
        """Removes what killed writers have left; whoever writes here does."""
        with _told(self.url):
            self._objects.tidy(self._base)

    def names(self, folder: str = "") -> list[str]:
        """Objects in ``folder``, not in folders of it."""
        from pyarrow.fs import FileSelector, FileType

        where = f"{self._base}/{folder}".rstrip("/")
        with _told(join(self.url, folder)):
            found = self._objects.fs.get_file_info(FileSelector(where, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == FileType.File)

    def folders(self, folder: str) -> list[str]:
        """Folders in ``folder``."""
        from pyarrow.fs import FileSelector, FileType

        with _told(join(self.url, folder)):
            found = self._objects.fs.get_file_info(FileSelector(f"{self._base}/{folder}", allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == FileType.Directory)

    def get(self, name: str) -> bytes | None:
        """An object's bytes; None if it is not there."""
        try:
            with _told(join(self.url, name)):
                return self._objects.read(f"{self._base}/{name}")
        except FileNotFoundError:
            return None

    def put(self, name: str, data: bytes) -> None:
        """Replaces an object as a whole."""
        with _told(join(self.url, name)):
            self._objects.write(f"{self._base}/{name}", data)

    def download(self, name: str, path: Path) -> bool:
        """Replaces a file as a whole by an object; False if it is not there."""
        try:
            with _told(join(self.url, name)), replacing(path) as temporary:
                self._objects.fetch(f"{self._base}/{name}", temporary)
        except FileNotFoundError:
            return False
        return True

    def upload(self, name: str, path: Path) -> None:
        """Replaces an object as a whole by a file."""
        with _told(join(self.url, name)):
            self._objects.send(f"{self._base}/{name}", path)

    def delete_folder(self, name: str) -> None:
        """Removes every object below ``name``."""
        try:
            with _told(join(self.url, name)):
                self._objects.fs.delete_dir(f"{self._base}/{name}")
        except FileNotFoundError:
            pass

    def place(self, name: str) -> tuple[str, FileSystem]:
        """A folder as pyarrow's file system has it, and that."""
        return f"{self._base}/{name}", self._objects.fs

    def delete(self, name: str) -> None:
        """Removes an object, if it is there."""
        try:
            with _told(join(self.url, name)):
                self._objects.fs.delete_file(f"{self._base}/{name}")
        except FileNotFoundError:
            pass


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Has an error name the URL, in a line, as an OSError: a fault of storage."""
    try:
        yield
    except Exception as error:
        is_files = isinstance(error, OSError) and (isinstance(error, FileNotFoundError) or error.filename is not None)
        if is_files or not (isinstance(error, OSError) or type(error).__module__.startswith("azure.")):
            raise
        raise OSError(f"{url}: {_why(error)}") from error


def _why(error: BaseException) -> str:
    text = re.sub(r" \(Request ID:.*?\)", "", str(error)).splitlines()[0]
    found = re.search(r"AWS Error .*", text)
    return found[0] if found else text
