"""Ray Train's trainer as a slot needs it. Imports torch: a second, which the driver pays when it starts a slot."""

from __future__ import annotations

from ray._private import worker
from ray.train.torch import TorchTrainer
from ray.train.v2.api.callback import RayTrainCallback

_DATASETS = "DatasetsCallback"  # shards Ray datasets, of which a slot has none, by an actor
_CLEANER = "PlacementGroupCleanerCallback"  # has an actor ask Ray's API server whether the trainer's controller lives


class SlotTrainer(TorchTrainer):
    """A TorchTrainer whose workers start without the processes that would serve them nothing."""

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        joined = worker._global_node
        has_server = joined is None or bool(joined.webui_url)  # a local cluster of ours has none
        unused = {_DATASETS} if has_server else {_DATASETS, _CLEANER}
        return [callback for callback in super()._create_default_callbacks() if type(callback).__name__ not in unused]
