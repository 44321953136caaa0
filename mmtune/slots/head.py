"""Notices that the head of a Ray cluster is gone, its GCS, or this node's raylet: without these nothing here goes on.

Ray's own code waits a minute for the GCS, in which calls hang, and then ends the process that waits, in words of its
own. So it is looked for from a thread, and what ends the process says first how to go on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

_EVERY = 1.0  # seconds between two looks
_PATIENCE = 3.0  # with what nobody starts again: a raylet, the GCS of a local cluster
_PATIENCE_ELSEWHERE = 45.0  # with the GCS of another, which may be started again; Ray's own ends after 60


@contextlib.contextmanager
def watching_head(lost: Callable[[str], None], *, is_local: bool) -> Iterator[None]:
    """While the block runs, ``lost`` is called once, from another thread, when the joined cluster's GCS is gone.

    Also when the raylet is through which this process has joined it.

    Args:
        lost: receives a line on what happened.
        is_local: whether the cluster is this process's own.
    """
    import ray

    here, is_over = ray.get_runtime_context(), threading.Event()
    (node,) = [node for node in ray.nodes() if node["NodeID"] == here.get_node_id()]
    raylet = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
    parts = [("head", here.gcs_address, _PATIENCE if is_local else _PATIENCE_ELSEWHERE), ("raylet", raylet, _PATIENCE)]
    for part, address, patience in parts:
        args = (part, address, lost, is_over, patience)
        threading.Thread(target=watch, args=args, name=f"{part}-watch", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def watch(
    part: str,
    address: str,
    lost: Callable[[str], None],
    is_over: threading.Event,
    patience: float,
    every: float = _EVERY,
) -> None:
    """Calls ``lost`` when nothing has listened at host:port for ``patience`` seconds; returns then, or when over."""
    silent_since: float | None = None
    while not is_over.wait(every):
        if answers(address):
            silent_since = None
        elif silent_since is None:
            silent_since = time.monotonic()
        elif time.monotonic() - silent_since >= patience and not is_over.is_set():
            is_over.set()
            lost(f"Ray's {part} at {address} died")
            return


def answers(address: str, timeout: float = 5.0) -> bool:
    """Whether something listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
    except OSError:
        return False
    return True


def end_process(error: str, going_on: str) -> None:
    """Ends this process with exit code 1, from any thread: the main one may hang in Ray."""
    print(f"mmtune: {error}", file=sys.stderr, flush=True)
    print(going_on, flush=True)
    os._exit(1)
