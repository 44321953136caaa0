"""What the dearest trial of a search will take of memory: by arithmetic, without training anything.

Of the trials that the sampler proposes first, some of each family that look dearest are worked out
(:mod:`trainables.footprint`); the others are taken to need no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmtune.spec.search_spec import SearchSpec
from mmtune.study.disk import Drawn, model_of

if TYPE_CHECKING:
    from trainables.config import TrialConfig

_WORKED_OUT, _LARGE_WORKED_OUT = 8, 2  # trials, over all families; of models of more than _LARGE parameters that train
_LARGE = 30_000_000


@dataclass(frozen=True)
class Memory:
    """Of the dearest trial, in bytes a worker."""

    peak: int
    unknown: tuple[str, ...] = ()
    """Families of which states alone are counted, weights, gradients and Adam's two moments, and why."""


def predict_memory(spec: SearchSpec, drawn: Sequence[Drawn], *, is_brief: bool = False) -> Memory:
    """What the dearest of some trials takes of the GPU, or of the machine where the spec's workers have none.

    Args:
        spec: the search.
        drawn: its first trials.
        is_brief: of each family the one that looks dearest is worked out alone.
    """
    from trainables.footprint import footprint

    peak, unknown = 0, dict[str, str]()
    for one in _dearest(drawn, spec.resources.workers, is_brief=is_brief):
        family, on_gpu = one.config.family, is_on_gpu(spec, one.config)
        try:
            peak = max(peak, footprint(one.config, workers=spec.resources.workers, on_gpu=on_gpu).peak)
        except NotImplementedError as error:
            peak, unknown[family] = max(peak, one.size.state_bytes), f"{family} ({error})"
    return Memory(peak, tuple(unknown.values()))


def is_on_gpu(spec: SearchSpec, config: TrialConfig) -> bool:
    """Whether a trial trains on a GPU."""
    return spec.resources.gpus_per_worker > 0 and config.device != "cpu"


def _dearest(drawn: Iterable[Drawn], workers: int, *, is_brief: bool) -> list[Drawn]:
    """Those of each family that look dearest: by what trains of them, and by their rows and tokens besides."""
    families: dict[str, dict[str, Drawn]] = {}
    for one in drawn:
        families.setdefault(one.config.family, {}).setdefault(model_of(one.config), one)
    found: list[Drawn] = []
    for models in families.values():
        large = sorted(models.values(), key=lambda one: one.size.num_trainable, reverse=True)
        dear = sorted(models.values(), key=lambda one: _guess(one, workers), reverse=True)
        is_large = large[0].size.num_trainable > _LARGE
        most = 1 if is_brief else _LARGE_WORKED_OUT if is_large else _WORKED_OUT
        count = max(1, most // len(families))
        both = [one for pair in zip(dear, large, strict=True) for one in pair]
        found += list({id(one): one for one in both}.values())[:count]
    return found


def _guess(one: Drawn, workers: int) -> float:
    """How dear a trial looks, in no unit: what trains, and activations by rows and tokens."""
    config, size = one.config, one.size
    rows = min(config.micro_batch_size or config.batch_size, -(-config.batch_size // workers))
    rows *= 2 if config.uda.mode in ("fixed", "dynamic") else 1
    tokens = rows * (config.max_text_len + (config.image_size / 16) ** 2)
    return size.num_trainable * (1 + tokens / 2e4 * (0.2 if config.gradient_checkpointing else 1.0))
