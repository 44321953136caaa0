"""Ray Train's trainer as a slot needs it. Imports torch: a second, which the driver pays when it starts a slot."""

from __future__ import annotations

from ray.train.torch import TorchTrainer
from ray.train.v2.api.callback import RayTrainCallback

_UNUSED = "DatasetsCallback"  # shards Ray datasets, of which a slot has none, by an actor that costs 1.6 CPU-s to start


class SlotTrainer(TorchTrainer):
    """A TorchTrainer whose workers start without the process that would shard Ray datasets for them."""

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        return [callback for callback in super()._create_default_callbacks() if type(callback).__name__ != _UNUSED]
