"""Nodes of a Ray cluster on this machine, each started by ``ray start`` with token authentication, as people do."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

_TOO_SLOW = "timed out during startup"
RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class RayNodes:
    """A head without CPUs, and workers as they are added.

    Args:
        folder: for Ray's files; its path is short, as sockets lie in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.dashboard = folder, free_port(), free_port()
        self.token = folder / "token"
        self.token.write_text(secrets.token_hex(32))
        path = f"{RAY.parent}{os.pathsep}{os.environ['PATH']}"  # of what jobs call: mmtune
        names = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token), "PATH": path}
        self.environment = os.environ | names
        self._started: list[subprocess.Popen[bytes]] = []
        client = free_port()
        head = ["--head", f"--port={self.port}", f"--dashboard-port={self.dashboard}", "--num-cpus=0"]
        try:
            self.head = self.start(*head, f"--ray-client-server-port={client}", f"--temp-dir={folder}")
        except BaseException:
            self.close()
            raise
        self.address = (folder / "ray_current_cluster").read_text().strip()

    def start(
        self, *args: str, env: dict[str, str] | None = None, within: Sequence[str] = (), is_patient: bool = True
    ) -> subprocess.Popen[bytes]:
        """A node, once it is up; ``is_patient``: tried once more on a machine that is too busy for Ray's 30 s."""
        command = [*within, RAY, "start", "--block", "--disable-usage-stats", "--object-store-memory=100000000", *args]
        command.append(f"--dashboard-agent-listen-port={free_port()}")  # a second cluster here has taken the usual one
        log = self.folder / f"node-{len(self._started)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, env=self.environment | (env or {}))
        self._started.append(process)
        deadline = time.monotonic() + 1200
        while b"Ray runtime started" not in log.read_bytes():
            if process.poll() is not None and is_patient and _TOO_SLOW in log.read_text():
                _end_below(next(word for word in args if word.startswith("--temp-dir=")).partition("=")[2])
                return self.start(*args, env=env, within=within, is_patient=False)
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        return process

    def add(
        self, *, cpus: int = 1, env: dict[str, str] | None = None, within: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """A worker; ``within`` is a command that runs another in surroundings of its own."""
        own = self.folder / f"w{len(self._started)}"  # nodes of one folder would delete each other's files of jobs
        own.mkdir()
        return self.start(
            f"--address={self.address}", f"--num-cpus={cpus}", f"--temp-dir={own}", env=env, within=within
        )

    def leave(self, node: subprocess.Popen[bytes]) -> None:
        """As a machine that is switched off: nothing of it is told to end, all of it is gone."""
        for process in [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                pass
        node.wait()

    def close(self) -> None:
        """Also what a node left whose `ray start` has ended: its command line has our folder."""
        for process in reversed(self._started):
            if process.poll() is None:
                self.leave(process)
        _end_below(str(self.folder))


def _end_below(folder: str) -> None:
    """Ends the processes of nodes whose files lie there."""
    for process in psutil.process_iter(["cmdline"]):
        if any(f"{folder}/" in word for word in process.info["cmdline"] or ()):
            process.kill()
