"""Prepares features on a Ray cluster of two nodes, each with a cache of its own: python ... CACHE_A CACHE_B."""

import json
import os
import sys
from pathlib import Path

from mmtune.slots.cluster import ENVIRONMENT

os.environ.update(ENVIRONMENT)

from ray.cluster_utils import Cluster  # noqa: E402 (Ray reads its settings on import)

from mmtune.slots.prepare import prepare_caches  # noqa: E402
from trainables.data.cache import features  # noqa: E402
from trainables.data.reading.dataset import DatasetRef  # noqa: E402
from trainables.data.requirements import dataset_requirements  # noqa: E402


def main() -> None:
    caches = sys.argv[1:]
    cluster = Cluster()
    for cache in caches:
        cluster.add_node(num_cpus=1, env_vars={"MMTUNE_CACHE": cache}, include_dashboard=False)
    needed = dataset_requirements(
        DatasetRef("openclipart"),
        text_encoder="tiny-bert",
        image_encoder="tiny-cnn",
        image_size=16,
        image_fit="crop",
        max_text_len=16,
    )
    lines: list[str] = []
    prepare_caches(needed, address=cluster.address, say=lines.append)
    found = {}
    for cache in caches:
        os.environ["MMTUNE_CACHE"] = cache
        found[cache] = [need.features.is_done for need in needed]
        found[cache].append(len(list(Path(cache, "shards").glob("*/values.npy"))))
    print(json.dumps({"lines": lines, "found": list(found.values()), "rows": features.SHARD_ROWS}))
    cluster.shutdown()


if __name__ == "__main__":
    main()
