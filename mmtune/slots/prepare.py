"""Fills the caches ahead of a search, on every node of a cluster.

1. Each node reads the dataset and makes tokens and images for itself.
2. What locked encoders give is computed once over the whole cluster, a task a shard of 1,024 rows, on a GPU where
   there is one; on several nodes the shards travel back with the tasks.
3. Each node puts the shards together. Nodes that share one cache folder find everything there already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mmtune.slots.cluster import ray_session

if TYPE_CHECKING:
    from ray import ObjectRef

    from trainables.data.requirements import Requirement


def prepare_caches(requirements: Sequence[Requirement], *, address: str | None, say: Callable[[str], None]) -> None:
    """Builds what the requirements name and the caches lack; interrupted, it goes on where it was.

    Args:
        requirements: of :func:`trainables.data.requirements.requirements`.
        address: of a Ray cluster; None starts a local one.
        say: receives a line for each step.

    Raises:
        ValueError: data or encoders that cannot be read, no cluster at ``address``.
    """
    if address is None and all(need.is_done for need in requirements):
        say("everything is there already")
        return
    with ray_session(address):
        import ray

        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
        for number, need in enumerate(requirements, start=1):
            say(f"{number} of {len(requirements)}: {describe(need)}")
            _prepare(nodes, need, requirements[number:], say)


def describe(need: Requirement) -> str:
    """A requirement in words."""
    source = f"{need.dataset.name}, {need.modality}"
    fit = "" if need.image_fit in (None, "crop") else f" ({need.image_fit})"
    size = f" at {need.image_size} pixels{fit}" if need.image_size else ""
    view = "" if need.view is None else ", augmented"
    if need.input.is_regions:
        return f"{source}: regions of {need.input.encoder}"
    if need.uses_features:
        return f"{source}{size}{view}: features ({need.input.output}) of {need.input.encoder}"
    return f"{source}{size}{view}: " + (f"tokens of {need.input.encoder}" if need.modality == "text" else "pixels")


def _prepare(
    nodes: list[dict[str, Any]], need: Requirement, later: Sequence[Requirement], say: Callable[[str], None]
) -> None:
    import ray

    counts = _get([_on(node, _sources, need) for node in nodes])
    if not need.uses_features or all(count == 0 for count in counts):
        return
    num_shards, brings = max(counts), len(nodes) > 1
    gpus = {"num_gpus": 1} if any(node["Resources"].get("GPU", 0) >= 1 for node in nodes) else {}
    task = ray.remote(_shard).options(num_cpus=1, scheduling_strategy="SPREAD", **gpus)
    shards = [task.remote(need, [] if brings else later, index, brings) for index in range(num_shards)]
    left = list(shards)
    while left:
        done, left = ray.wait(left)
        if not brings:
            _get(done)
        say(f"  shard {num_shards - len(left)} of {num_shards}")
    brought = shards if brings else []
    _get([_on(node, _assemble, need, *brought) for node in nodes])


def _get(references: Sequence[ObjectRef | None]) -> list[Any]:
    """Results; an error of a task as itself."""
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(references)  # pyright: ignore[reportCallIssue, reportArgumentType]
    except RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, ValueError) else error from None


def _on(node: dict[str, Any], function: Callable[..., Any], *args: object) -> ObjectRef:
    """A task on that node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(function).options(num_cpus=1, scheduling_strategy=strategy).remote(*args)


# --- on the nodes -------------------------------------------------------------------------------------
def _sources(need: Requirement) -> int:
    """Tokens and images; how many shards of features this node's cache lacks."""
    if not need.uses_features:
        need.build()
        return 0
    job = need.features
    return 0 if job.is_done else job.num_shards


def _shard(need: Requirement, later: Sequence[Requirement], index: int, brings: bool) -> dict[str, Any] | None:
    from trainables.data.cache.store import meta

    folder = need.features.build_shard(index, [other.features for other in later if other.uses_features])
    if not brings:
        return None
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "meta.json"}
    return {"index": index, "files": files, "facts": _facts(meta(folder))}


def _facts(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in ("key", "checksums")}


def _assemble(need: Requirement, *shards: dict[str, Any]) -> None:
    job = need.features
    if not job.is_done:
        for shard in shards:
            job.put_shard(shard["index"], shard["files"], shard["facts"])
    job.open()
