"""Ray's processes of a local cluster as forks of one that has imported what they need, each import paid once.

Ray starts an interpreter for every actor, and torch, Ray Train and transformers are six CPU-seconds of imports to each.
Here it starts a small script instead (``forked.py``), which hands its arguments, environment and standard streams over
a socket to a server; the server forks, and the child runs Ray's own worker script. What imports fill is shared memory.

Nothing depends on it: a script that gets no answer starts the process as Ray does. The server has no threads but those
that their libraries end before a fork themselves (OpenBLAS of numpy, jemalloc of pyarrow), starts no Ray and touches no
GPU; it ends when its standard input does. Two of Ray's settings are read once, when it is imported, and are the
server's for all: the job, the first and only one here, and the process whose end is the worker's, which is the server.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from mmtune.slots.forked import ANSWER, HEADER, SOCKET

_NAME = "mmtune.slots.forkserver"
_SCRIPT = Path(__file__).with_name("forked.py")
_JOB = "01000000"  # a local cluster's first and only
_NEEDED = (
    "ray._private.workers.default_worker", "ray.train.torch", "ray.tune", "mmtune.slots.worker", "mmtune.slots.trial",
    "mmtune.slots.broker", "mmtune.slots.trainer", "torch._dynamo", "torchvision.models",
    "transformers.models.bert.modeling_bert", "transformers.models.auto.modeling_auto", "trainables.loop",
)  # fmt: skip
_up: list[str] = []  # the socket of this process's server


@contextlib.contextmanager
def serving(folder: str) -> Iterator[None]:
    """The server, from now until the block ends; in a block of another it is that one.

    Args:
        folder: for the socket, whose path has a longest length.
    """
    if sys.platform != "linux" or _up:
        yield
        return
    own = tempfile.mkdtemp(prefix="mmtune-", dir=folder)  # of mode 0700: nobody else's processes reach the socket
    path = f"{own}/{SOCKET}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(128)  # scripts that come early wait here
        quiet, number = subprocess.DEVNULL, listening.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", _NAME, str(number), own],
            env={"TORCHINDUCTOR_CACHE_DIR": own, "OMP_NUM_THREADS": "1"} | os.environ,  # read when torch is imported
            stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True, pass_fds=[number],
        )  # fmt: skip
    try:
        os.environ[SOCKET] = path
        _up.append(path)
        yield
    finally:
        _up.clear()
        del os.environ[SOCKET]
        assert process.stdin is not None
        process.stdin.close()
        process.kill()
        process.wait()
        shutil.rmtree(own, ignore_errors=True)


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """A Ray that starts in the block asks the server for its workers, where there is one.

    What it starts processes by it is told in an argument that ``ray.init`` does not have.
    """
    if not _up:
        yield
        return
    from ray._private.parameter import RayParams

    original = RayParams.__init__

    def with_script(self: Any, *args: Any, **settings: Any) -> None:
        original(self, *args, **{"setup_worker_path": str(_SCRIPT)} | settings)

    with mock.patch.object(RayParams, "__init__", with_script):
        yield


def serve(listening: socket.socket) -> Worker | None:
    """Imports, then forks for whoever asks; in a fork what it shall become, None in the server when its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ |= {"RAY_JOB_ID": _JOB, "RAY_RAYLET_PID": str(os.getpid())}
    gc.disable()  # a fifth of the time went into looking for garbage, of which imports leave none
    import ray.actor

    with mock.patch.object(ray.actor, "ActorClassID", _ClassIds):
        for name in _NEEDED:
            importlib.import_module(name)
    gc.freeze()
    gc.enable()
    if threading.active_count() > 1 or not _draws_anew():  # a lock that a thread holds stays locked in a fork
        return None
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    while True:
        ready = select.select([sys.stdin, listening], [], [])[0]
        if sys.stdin in ready:
            return None
        asking, _ = listening.accept()
        with asking, contextlib.suppress(OSError, ValueError):
            worker = Worker.read(asking)
            if os.fork() == 0:
                return worker
            for stream in worker.streams:
                os.close(stream)
            asking.sendall(ANSWER)


def _draws_anew() -> bool:
    """Whether ids that Ray draws in two forks differ: its generator must not have been used before."""
    from ray._raylet import UniqueID  # pyright: ignore[reportAttributeAccessIssue]

    drawn = set()
    for _ in range(2):
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            os.write(writing, UniqueID.from_random().binary())
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as file:
            drawn.add(file.read())
        os.waitpid(pid, 0)
    return len(drawn) == 2


class _ClassIds:
    """Ids for classes of actors that leave Ray's own generator unseeded: seeded before a fork, it repeats itself."""

    @staticmethod
    def from_random() -> Any:
        from ray._raylet import ActorClassID

        return ActorClassID(os.urandom(ActorClassID.size()))


@dataclass(frozen=True)
class Worker:
    """What a process is started with."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    streams: list[int]

    @classmethod
    def read(cls, asking: socket.socket) -> Worker:
        header, streams, _, _ = socket.recv_fds(asking, HEADER, 3)
        with asking.makefile("rb") as file:
            said = json.loads(file.read(int.from_bytes(header)))
        return cls(said["arguments"], said["folder"], said["environment"], streams)

    def run(self) -> None:
        """This process, a fork, as Ray's worker, to its end."""
        from ray._raylet import Config  # pyright: ignore[reportAttributeAccessIssue]

        os.setsid()  # Ray ends a worker's whole process group
        for number, stream in enumerate(self.streams):
            os.dup2(stream, number)
            os.close(stream)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(self.folder)
        for key in os.environ.keys() - self.environment.keys():
            del os.environ[key]
        os.environ.update(self.environment)
        Config.initialize("")  # Ray has read its settings when it was imported
        sys.argv = self.arguments
        sys.path[0] = os.path.dirname(self.arguments[0])
        runpy.run_path(self.arguments[0], run_name="__main__")


def main(number: int, folder: str) -> None:
    """The server at the socket of that number, in that folder, which goes with it."""
    with socket.socket(fileno=number) as listening:
        worker = serve(listening)
    if worker is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        worker.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
