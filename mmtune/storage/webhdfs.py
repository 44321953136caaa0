"""HDFS as objects, through WebHDFS: the HTTP port of its NameNode, and of its DataNodes (Hadoop's "WebHDFS REST API").

A file of HDFS is seen while it is written, and what a dead writer left of it is closed as if it were whole. So each is
written as a part beside it and then renamed onto it, which the NameNode does at once; nobody who lists sees a part.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from pyarrow import BufferReader, PythonFile
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType, PyFileSystem

PORT = 9870  # dfs.namenode.http-address since Hadoop 3
_PART = ".part-"
_OURS = f"{_PART}{uuid.uuid4().hex[:8]}-"  # of this process
_CHUNK = 2**20  # bytes
_CONNECT, _ANSWER = 10.0, 60.0  # seconds
_WAITS = (0.2, 0.6, 1.8)  # seconds before what was not answered is asked again
_T = TypeVar("_T")
_TYPES = {"FILE": FileType.File, "DIRECTORY": FileType.Directory}


class WebHdfs(FileSystemHandler):
    """A cluster's files by their path, its NameNode first: as :class:`mmtune.storage.objects.Objects`, and to pyarrow.

    Args:
        address: the NameNode's, host or host:port.
        user: None takes Hadoop's own HADOOP_USER_NAME, else the name of who runs this.
    """

    def __init__(self, address: str, user: str | None = None) -> None:
        self._address, self._user = address, user or os.environ.get("HADOOP_USER_NAME") or getpass.getuser()
        self._node = address if ":" in address else f"{address}:{PORT}"
        self.fs = PyFileSystem(self)

    def __reduce__(self) -> tuple[type[WebHdfs], tuple[str, str]]:
        return WebHdfs, (self._address, self._user)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WebHdfs) and self.__reduce__() == other.__reduce__()

    def read(self, path: str) -> bytes:
        out = io.BytesIO()
        self._receive(path, out)
        return out.getvalue()

    def write(self, path: str, data: bytes) -> None:
        self._send(path, io.BytesIO(data), len(data))

    def fetch(self, path: str, file: Path) -> None:
        with file.open("wb") as out:
            self._receive(path, out)

    def send(self, path: str, file: Path) -> None:
        with file.open("rb") as source:
            self._send(path, source, os.fstat(source.fileno()).st_size)

    def probe(self, folder: str) -> None:
        new, above = [], folder
        while "/" in above and self.get_file_info([above])[0].type == FileType.NotFound:
            new.append(above)
            above = above.rpartition("/")[0]
        self.write(f"{folder}/.probe", b"")
        with contextlib.suppress(FileNotFoundError):
            self.delete_file(f"{folder}/.probe")
        for made in new:
            with contextlib.suppress(OSError):  # another has begun there
                self._told("DELETE", made, "DELETE")

    def tidy(self, folder: str) -> None:
        for info in self._list(folder, is_deep=True):
            if info.base_name.startswith(_PART) and not info.base_name.startswith(_OURS):
                self._told("DELETE", info.path, "DELETE")

    def _receive(self, path: str, out: BinaryIO) -> None:
        def receive(silent: set[str]) -> None:
            out.seek(0)
            out.truncate()
            at = self._data_node("GET", path, "OPEN", silent)
            with self._asked("GET", at) as response:
                wanted, got = response.length, 0
                while True:
                    with _heard(at):
                        data = response.read(_CHUNK)
                    if not data:
                        break
                    got += out.write(data)
            if wanted is not None and got != wanted:
                raise _UnansweredError(at, f"its answer ended after {got} of {wanted} bytes")

        self._again(receive)

    def _send(self, path: str, source: BinaryIO, size: int) -> None:
        def send(silent: set[str]) -> None:
            source.seek(0)
            part = f"{path.rpartition('/')[0]}/{_OURS}{uuid.uuid4().hex}"
            try:
                at = self._data_node("PUT", part, "CREATE", silent, overwrite="false")
                self._asked("PUT", at, source, size).close()
                self._once("PUT", part, "RENAME", destination=_inside(path), renameoptions="OVERWRITE")
            except BaseException as error:
                with contextlib.suppress(OSError):
                    self._once("DELETE", part, "DELETE")
                if isinstance(error, FileNotFoundError):  # the part
                    raise OSError(str(error)) from error
                raise

        self._again(send)

    def _data_node(self, method: str, path: str, op: str, silent: set[str], **settings: str) -> str:
        """The URL at which a DataNode, none of ``silent``, answers ``op``."""
        if silent:
            settings["excludedatanodes"] = ",".join(sorted(silent))
        with self._asked(method, self._url(path, op, settings)) as response:
            at = response.headers["Location"]
        if at is None or not at.startswith("http://"):
            raise OSError(f"{self._node} sends to {at}, and only http:// is supported")
        return at

    def _told(self, method: str, path: str, op: str, **settings: str) -> Any:
        """What the NameNode says to ``op``, which may be done twice."""
        return self._again(lambda _: self._once(method, path, op, **settings))

    def _once(self, method: str, path: str, op: str, **settings: str) -> Any:
        url = self._url(path, op, settings)
        with self._asked(method, url) as response, _heard(url):
            text = response.read()
        return json.loads(text) if text else None

    def _again(self, act: Callable[[set[str]], _T]) -> _T:
        """What ``act`` returns; where nobody answers it is asked again, not to take the DataNodes that were silent.

        The NameNode takes a dead one for a living one for ten minutes, and rather one on the same machine than another.
        """
        silent: set[str] = set()
        for wait in _WAITS:
            try:
                return act(silent)
            except _UnansweredError as error:
                where = urlsplit(error.url)
                if where.netloc != self._node:
                    with contextlib.suppress(OSError):
                        silent.add(socket.gethostbyname(where.hostname or ""))
            except OSError:
                if not silent:
                    raise
                silent.clear()  # there are no others
            time.sleep(wait)
        return act(set())

    def _url(self, path: str, op: str, settings: dict[str, str]) -> str:
        query = urlencode({"op": op, "user.name": self._user, **settings})
        return f"http://{self._node}/webhdfs/v1{quote(_inside(path))}?{query}"

    def _asked(self, method: str, url: str, body: BinaryIO | None = None, size: int = 0) -> HTTPResponse:
        """The answer to a request, if that is no refusal."""
        where = urlsplit(url)
        connection = HTTPConnection(where.netloc, timeout=_CONNECT, blocksize=_CHUNK)
        headers = {"Content-Type": "application/octet-stream", "Connection": "close", "Content-Length": str(size)}
        with _heard(url):
            connection.connect()
            connection.sock.settimeout(_ANSWER)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has answered before the end
                connection.request(method, f"{where.path}?{where.query}", body, headers)
            response = connection.getresponse()
        if response.status < 400:
            return response
        with response:
            raise _refusal(response, where.netloc)

    def _list(self, folder: str, *, is_deep: bool = False) -> list[FileInfo]:
        """What is in a folder, parts too.

        Raises:
            FileNotFoundError: there is none.
        """
        found = [
            _info(f"{folder}/{status['pathSuffix']}", status)
            for status in self._told("GET", folder, "LISTSTATUS")["FileStatuses"]["FileStatus"]
            if status["pathSuffix"]  # else the folder is a file, and this is itself
        ]
        within = [info.path for info in found if is_deep and info.type == FileType.Directory]
        return found + [info for path in within for info in self._list(path, is_deep=True)]

    # What pyarrow asks; Ray keeps its own small files through it.

    def get_type_name(self) -> str:
        return "webhdfs"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        found = []
        for path in paths:
            try:
                found.append(_info(path, self._told("GET", path, "GETFILESTATUS")["FileStatus"]))
            except FileNotFoundError:
                found.append(FileInfo(path, FileType.NotFound))
        return found

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        try:
            found = self._list(selector.base_dir, is_deep=selector.recursive)
        except FileNotFoundError:
            if selector.allow_not_found:
                return []
            raise
        return [info for info in found if not info.base_name.startswith(_PART)]

    def create_dir(self, path: str, recursive: bool) -> None:
        self._told("PUT", path, "MKDIRS")

    def delete_dir(self, path: str) -> None:
        if not self._told("DELETE", path, "DELETE", recursive="true")["boolean"]:
            raise FileNotFoundError(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        for info in self.get_file_info_selector(FileSelector(path, allow_not_found=missing_dir_ok)):
            self.delete_dir(info.path)

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError

    def delete_file(self, path: str) -> None:
        if not self._told("DELETE", path, "DELETE")["boolean"]:
            raise FileNotFoundError(path)

    def move(self, src: str, dest: str) -> None:
        self._told("PUT", src, "RENAME", destination=_inside(dest), renameoptions="OVERWRITE")

    def copy_file(self, src: str, dest: str) -> None:
        self.write(dest, self.read(src))

    def open_input_stream(self, path: str) -> BufferReader:
        return BufferReader(self.read(path))

    def open_input_file(self, path: str) -> BufferReader:
        return BufferReader(self.read(path))

    def open_output_stream(self, path: str, metadata: object) -> PythonFile:
        return PythonFile(_Written(self, path), mode="w")

    def open_append_stream(self, path: str, metadata: object) -> PythonFile:
        raise NotImplementedError


class _Written(io.BytesIO):
    """Written when it is closed."""

    def __init__(self, files: WebHdfs, path: str) -> None:
        super().__init__()
        self._files, self._path = files, path

    def close(self) -> None:
        if not self.closed:
            self._files.write(self._path, self.getvalue())
        super().close()


class _UnansweredError(OSError):
    """Nobody answered at ``url``, or not to the end."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"no WebHDFS answers at {urlsplit(url).netloc}: {why}")
        self.url = url


@contextlib.contextmanager
def _heard(url: str) -> Iterator[None]:
    try:
        yield
    except HTTPException as error:
        raise _UnansweredError(url, type(error).__name__) from error
    except OSError as error:
        raise _UnansweredError(url, error.strerror or str(error)) from error


def _refusal(response: HTTPResponse, node: str) -> OSError:
    """What the answer says, in a line."""
    try:
        told = json.loads(response.read())["RemoteException"]
        kind, text = told["exception"], told["message"].splitlines()[0]
    except (ValueError, LookupError, TypeError, HTTPException, OSError):
        if response.status == 401:
            return OSError(f"{node} asks for a login (Kerberos, or a password), which is not supported")
        return OSError(
            f"no WebHDFS at {node} (HTTP {response.status}): hdfs:// takes the NameNode's HTTP port, usually {PORT}"
        )
    return FileNotFoundError(text) if kind == "FileNotFoundException" else OSError(f"{kind}: {text}")


def _info(path: str, status: dict[str, Any]) -> FileInfo:
    kind = _TYPES.get(status["type"], FileType.Unknown)
    return FileInfo(path, kind, size=status["length"] if kind == FileType.File else None)


def _inside(path: str) -> str:
    """A path as the NameNode has it."""
    return "/" + path.partition("/")[2]
