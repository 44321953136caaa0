"""Starting or joining Ray quietly, and what fits on the cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.slots.fewer import few_processes
from mmtune.slots.forkserver import forking, serving
from mmtune.slots.joining import check_cluster
from mmtune.slots.reaper import ending_on_error, reaping

# Settings that Ray reads from the environment of the driver and of every worker.
ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # the default of 2 s also delays every report
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what the raylet prints into the driver's terminal; its logs keep it
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger writes what a study keeps
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the report that ends a trial carries no metric
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # twenty lines of each actor that dies; the study says it in one
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the study has its own
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait cost five times the time on a busy machine
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # What tensorboardX and Ray would set while Ray's threads read the environment, which a new name moves in memory:
    # the driver died of it. Of one that is there the value alone is exchanged.
    "CRC32C_SW_MODE": "auto",
    "PYTHONBREAKPOINT": "ray.util.rpdb.set_trace",
}

# Of a local Ray: what would answer anybody with its metrics, without a token.
NO_METRICS = {
    "RAY_enable_metrics_collection": "0",
    "AUTOSCALER_METRIC_PORT": "-1",  # no port at all: Ray has no other way to leave it out
    "DASHBOARD_METRIC_PORT": "-1",
}
_TOO_SLOW = "timed out during startup"  # what Ray says where its processes take over 30 s; on a busy machine once more
_LONGEST_SOCKET = 107  # bytes of its path, by the kernel; on macOS 103
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
_SOCKET_OF_RAY = "ray/session_2026-01-31_00-00-00_000000_1234567/sockets/plasma_store"  # the longest below its folder
_HANDED_ON = ("MMTUNE_CACHE", "MMTUNE_LINKS", "HF_HUB_OFFLINE")
_OF_STORES = ("AWS_", "GOOGLE_", "AZURE_", "HADOOP_USER_NAME")  # who reads and writes objects
HEAD = "node:__internal_head__"  # a resource that every cluster's head node has


@dataclass(frozen=True)
class Node:
    cpus: float
    gpus: float
    memory_gib: float


def local_node() -> Node:
    """This machine, as a cluster of one node would see it."""
    cpus = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = 0
    if os.path.exists("/dev/nvidia0") or os.path.exists("/proc/driver/nvidia"):
        import torch

        gpus = torch.cuda.device_count()
    return Node(float(cpus), float(gpus), memory)


def local_nodes() -> list[Node]:
    """The cluster that :func:`ray_session` would start on this machine.

    Raises:
        ValueError: Ray has no place for its sockets here.
    """
    if not _fits_sockets(_ray_folder()):
        _short_folder()
    return [local_node()]


@contextlib.contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Ray: the one already joined by this process, the cluster at ``address``, or a local one that ends with us.

    Raises:
        ValueError: nothing answers at ``address`` or it wants a token that is not here, or a local one has no place
            for its sockets.
    """
    set_environment(address)
    quiet()
    if not starts_local(address):
        with _joined(address):
            yield
        return
    with _place_of_sockets() as folder, serving(folder), _started(folder):
        yield


@contextlib.contextmanager
def importing_ahead(address: str | None) -> Iterator[None]:
    """What Ray's processes need is imported from now on, beside what this one does, for a :func:`ray_session` within.

    Of a local cluster alone; where that has no place for its sockets it is left to that to say so.
    """
    folders = (_ray_folder(), *_SHORT_FOLDERS)
    folder = next((folder for folder in folders if _fits_sockets(folder)), None)
    if folder is None or not starts_local(address):
        yield
        return
    set_environment(address)
    with serving(folder):
        yield


@contextlib.contextmanager
def _joined(address: str | None) -> Iterator[None]:
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ["RAY_ADDRESS"]
    if address != "local":
        check_cluster(address)
    try:
        _init(address, runtime_env={"env_vars": ENVIRONMENT})
        quiet()
        _hide_token()
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _started(folder: str) -> Iterator[None]:
    import ray

    # Ray listens on every interface, whatever it is told; its token authentication, which a local cluster has by
    # default, stays on.
    settings = {"include_dashboard": False, "object_store_memory": 256 * 2**20, "num_cpus": int(local_node().cpus)}
    if folder != _ray_folder():
        settings |= {"_temp_dir": folder}
    try:
        with forking(), few_processes():
            _init("local", **settings)  # without an address ray.init would join whatever cluster runs on this machine
        quiet()
        _hide_token()
        with reaping():
            yield
    finally:
        ray.shutdown()


def _init(address: str, **settings: Any) -> None:
    """Ray, tried twice where its processes are too slow to start.

    Raises:
        ValueError: it does not start, or nothing answers.
    """
    import ray
    from ray.exceptions import RaySystemError

    try:
        for is_last in (False, True):
            try:
                with ending_on_error():
                    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **settings)
                break
            except Exception as error:
                if is_last or _TOO_SLOW not in str(error):
                    raise
    except Exception as error:  # Ray raises that very class where its processes are too slow to start
        if type(error) is not Exception and not isinstance(error, ConnectionError | RaySystemError | RuntimeError):
            raise
        reason = str(error).splitlines()[0]
        if address == "local":
            raise ValueError(f"Ray does not start here: {reason}") from None
        raise ValueError(f"no Ray cluster answers at '{address}': {reason}") from None


@contextlib.contextmanager
def _place_of_sockets() -> Iterator[str]:
    """Ray's folder, or one for this session alone where its sockets do not fit there."""
    if _fits_sockets(_ray_folder()):
        yield _ray_folder()
        return
    own = tempfile.mkdtemp(prefix="mmtune-", dir=_short_folder())
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _hide_token() -> None:
    """Ray writes the token of its clusters for everybody to read; whoever has it may run code here."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    with contextlib.suppress(OSError):  # there is none, or it is another's
        if token.stat().st_mode & 0o077:
            token.chmod(0o600)


def set_environment(address: str | None) -> None:
    """What Ray reads when it is imported, which must come after this; the user's own settings stay."""
    os.environ.update({key: value for key, value in ENVIRONMENT.items() if key not in os.environ})
    if starts_local(address):
        os.environ.update({key: value for key, value in NO_METRICS.items() if key not in os.environ})


def starts_local(address: str | None) -> bool:
    """Whether :func:`ray_session` would start a Ray of its own."""
    ray = sys.modules.get("ray")
    is_joined = ray is not None and ray.is_initialized()
    return address is None and not is_joined and not os.environ.get("RAY_ADDRESS")


@contextlib.contextmanager
def nodes_of(address: str | None) -> Iterator[list[Node]]:
    """The nodes that a study would run on; a cluster stays joined for the block, a local one is not started yet.

    Raises:
        ValueError: as :func:`ray_session` and :func:`local_nodes` do.
    """
    if starts_local(address):
        yield local_nodes()
        return
    with ray_session(address):
        yield cluster_nodes()


def _ray_folder() -> str:
    """Where Ray keeps its sockets, unless it is told otherwise."""
    return os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"


def _fits_sockets(folder: str) -> bool:
    """Whether Ray can make its sockets in ``folder``: job schedulers set a long TMPDIR."""
    is_short = len(os.fsencode(f"{folder}/{_SOCKET_OF_RAY}")) <= _LONGEST_SOCKET
    return is_short and Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _short_folder() -> str:
    """Another place for them.

    Raises:
        ValueError: there is none.
    """
    for folder in _SHORT_FOLDERS:
        if _fits_sockets(folder):
            return folder
    raise ValueError(
        f"TMPDIR: Ray cannot make its sockets in {_ray_folder()}, which must be a folder that can be written to with a "
        f"path of at most {_LONGEST_SOCKET - len(_SOCKET_OF_RAY) - 1} characters, nor in /tmp; set TMPDIR to another"
    )


def handed_on() -> dict[str, str]:
    """The variables of this process's environment that workers get as well."""
    return {key: value for key, value in os.environ.items() if key in _HANDED_ON or key.startswith(_OF_STORES)}


def quiet() -> None:
    """Only errors from Ray and Optuna: the study says itself what happens."""
    for name in ("ray", "ray.tune", "ray.train", "ray.widgets", "optuna"):
        logging.getLogger(name).setLevel(logging.ERROR)


def cluster_nodes() -> list[Node]:
    """The live nodes of the joined cluster."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(node.get("CPU", 0.0), node.get("GPU", 0.0), node.get("memory", 0.0) / 2**30) for node in nodes]


def workers_that_fit(nodes: Sequence[Node], *, cpus: float, gpus: float) -> int:
    """How many workers of that size the nodes hold at the same time; a worker spans neither nodes nor GPUs.

    Args:
        cpus: of one worker; 0 takes none.
        gpus: of one worker, at most 1; 0 takes none.
    """
    total = 0
    for node in nodes:
        room = [_times(node.cpus, cpus)] if cpus else []
        room += [int(node.gpus) * _times(1, gpus)] if gpus else []
        total += min(room, default=0)
    return total


def _times(whole: float, part: float) -> int:
    """How often ``part`` fits, in Ray's unit of 0.0001: 0.3 / 0.1 is 3 there, but 2.9999999999999996 to a float."""
    return round(whole * 10_000) // round(part * 10_000)
