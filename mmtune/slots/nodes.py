"""Whether each node of a joined cluster could train: it has mmtune, the same one, and sees the data and the folder."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import uuid
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_SECONDS = 120.0  # for a node to start a process and to look
_MOST_ENTRIES = 1000  # of the data folder that are looked for: there may be a million pictures in it
_NEEDED = ("mmtune", "trainables", "torch", "transformers")  # packages


def check_nodes(*, data_dir: str | None = None, folder: Path | None = None) -> None:
    """Returns if every other node of the joined cluster that workers can be placed on could train.

    Args:
        data_dir: that all have to see, with the files and folders that are in it here; None for embedded data.
        folder: that all have to see, made or not; None if there is none yet.

    Raises:
        ValueError: a line for each thing that a node lacks.
    """
    import ray

    data_dir = None if data_dir is None else str(Path(data_dir).expanduser().resolve())
    entries = [] if data_dir is None else sorted(str(path) for path in Path(data_dir).glob("[!.]*"))
    here = ray.get_runtime_context().get_node_id()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here and _has_room(node["Resources"])]
    if not nodes:
        return
    with _marked(folder) as marker:
        found = _ask(nodes, tuple(entries[:_MOST_ENTRIES]), None if marker is None else str(marker))
    there = {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # others have left meanwhile
    nodes = [node for node in nodes if node["NodeID"] in there]
    problems = [problem for node in nodes for problem in _problems(node, found, data_dir, folder)]
    if problems:
        raise ValueError("\n".join(problems))


def _has_room(resources: Mapping[str, float]) -> bool:
    return resources.get("CPU", 0) > 0 or resources.get("GPU", 0) > 0


def _problems(
    node: Mapping[str, Any], found: Mapping[str, dict[str, Any] | str], data_dir: str | None, folder: Path | None
) -> Iterator[str]:
    name, facts = f"node {node['NodeManagerAddress']}", found[node["NodeID"]]
    if isinstance(facts, str):
        yield f"{name}: cannot be used: {facts}"
        return
    if facts["missing"]:
        yield f"{name}: {', '.join(facts['missing'])} cannot be imported in its Python ({facts['python']})"
    elif (own := _own_code()) != (facts["version"], facts["code"]):
        its = f"{facts['version']} ({facts['code']})"
        yield f"{name}: has another mmtune, {its}, than this machine, {own[0]} ({own[1]})"
    if not facts["has_data"]:
        yield f"{name}: does not see the data in {data_dir}; copy or mount them there on every node"
    if not facts["has_folder"]:
        yield f"{name}: does not see {folder}; --storage must be a folder that all nodes share"


@contextlib.contextmanager
def _marked(folder: Path | None) -> Iterator[Path | None]:
    """A file that is in ``folder``, or in what is there of the way to it, as long as the block runs."""
    if folder is None:
        yield None
        return
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    marker = there / f".seen-{uuid.uuid4().hex}.tmp"
    marker.touch()
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)


def _ask(nodes: list[dict[str, Any]], files: tuple[str, ...], marker: str | None) -> dict[str, dict[str, Any] | str]:
    """What each node has by its id, or why it did not say."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def look(needed: tuple[str, ...], files: tuple[str, ...], marker: str | None) -> dict[str, Any]:
        """Travels as code: the node may not have this module."""
        import importlib.util
        import os
        import sys

        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        number, code = None, None
        if not missing:
            from mmtune.slots.nodes import _own_code

            number, code = _own_code()
        return {
            "missing": missing,
            "version": number,
            "code": code,
            "python": sys.executable,
            "has_data": all(map(os.path.exists, files)),  # the folder alone may be where nothing is mounted
            "has_folder": marker is None or os.path.exists(marker),
        }

    asked = {}
    for node in nodes:
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(look).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy)
        asked[node["NodeID"]] = task.remote(_NEEDED, files, marker)
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=_SECONDS)
    found: dict[str, dict[str, Any] | str] = {}
    for node, answer in asked.items():
        try:
            found[node] = ray.get(answer, timeout=0)
        except RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            found[node] = lines[-1] if "Timeout" not in type(error).__name__ else f"no answer for {_SECONDS:.0f} s"
    return found


@functools.cache
def _own_code() -> tuple[str | None, str]:
    """The version of mmtune here, and the first letters of a hash over its sources."""
    import mmtune
    import trainables

    digest = hashlib.sha256()
    for package in (mmtune, trainables):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    try:
        number = version("mmtune")
    except PackageNotFoundError:
        number = mmtune.__version__
    return number, digest.hexdigest()[:8]
