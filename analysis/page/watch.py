"""The report of studies that still run, served on this machine alone: made again when they have written something.

One address, one page; the loopback interface only, and only to who asks for it by that name, so that no other site can
read it through a browser. The page asks for its version (a header) and loads itself again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from analysis.reading import stamp
from analysis.report import write_report
from analysis.studies import Paths, study_folders
from analysis.tables import escaped

LOOPBACK = "127.0.0.1"
VERSION = "X-Mmtune-Version"
EVERY = 10.0  # seconds between two reports at least
_LOOK = 1.0  # seconds between two looks at the studies
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; connect-src 'self'"
)


class Watched:
    """The newest page of some studies.

    Args:
        paths: the studies.
        out: the folder of the report; None takes the study's own.
        options: of :func:`analysis.report.write_report`.

    Raises:
        ValueError: a path is no study.
    """

    def __init__(self, paths: Paths, out: str | Path | None = None, **options: Any) -> None:
        self._paths, self._out, self._options = paths, out, options
        self._folders = list(study_folders(paths).values())
        self._seen: Any = None
        self.page, self.version = _note("no report yet"), 0

    def renew(self) -> bool:
        """Makes the report again if the studies' tables have changed since the last; whether it did."""
        seen = [stamp(file) for folder in self._folders for file in (folder.trials, folder.changes, folder.reports)]
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            page = write_report(self._paths, self._out, **self._options).html.read_bytes()
        except ValueError as error:  # nothing has ended yet
            page = _note(str(error))
        self.page, self.version = page, self.version + 1
        return True


@contextmanager
def served(watched: Watched, port: int = 0) -> Any:
    """A server of the page in a thread, as long as the context lasts; gives its address.

    Args:
        watched: what is served.
        port: of the loopback interface; 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    server = ThreadingHTTPServer((LOOPBACK, port), _handler(watched))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def watch_report(watched: Watched, port: int, say: Callable[[str], None]) -> None:
    """Serves the report until Ctrl-C.

    Raises:
        OSError: the port is taken.
    """
    watched.renew()
    with served(watched, port) as address:
        say(f"{address} (Ctrl-C ends it)")
        made = time.monotonic()
        try:
            while True:
                time.sleep(_LOOK)
                if time.monotonic() - made >= EVERY and watched.renew():
                    made = time.monotonic()
        except KeyboardInterrupt:
            return


def _handler(watched: Watched) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_page=True)

        def do_HEAD(self) -> None:
            self._answer(with_page=False)

        def _answer(self, *, with_page: bool) -> None:
            page, version = watched.page, watched.version
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in (LOOPBACK, "localhost") or self.path.partition("?")[0] != "/":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", _POLICY)
            self.send_header(VERSION, str(version))
            self.end_headers()
            if with_page:
                self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    return Handler


def _note(text: str) -> bytes:
    """A page that says why there is no report yet, and looks again."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        f"<title>mmtune</title></head><body><p>{escaped(text)}</p></body></html>"
    ).encode()
