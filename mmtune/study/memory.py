"""What the dearest trial of a search will take of memory: by arithmetic, without training anything.

Of the trials that the sampler proposes first, the one of each family that looks dearest is worked out
(:mod:`trainables.footprint`); the others are taken to need no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmtune.spec.search_spec import SearchSpec
from mmtune.study.disk import Drawn

if TYPE_CHECKING:
    from trainables.config import TrialConfig


@dataclass(frozen=True)
class Memory:
    """Of the dearest trial, in bytes a worker."""

    peak: int
    unknown: tuple[str, ...] = ()
    """Families of which states alone are counted, weights, gradients and Adam's two moments, and why."""


def predict_memory(spec: SearchSpec, drawn: Sequence[Drawn]) -> Memory:
    """What the dearest of some trials takes of the GPU, or of the machine where the spec's workers have none.

    Args:
        spec: the search.
        drawn: its first trials.
    """
    from trainables.footprint import footprint

    peak, unknown = 0, dict[str, str]()
    for one in _dearest(drawn, spec.resources.workers):
        family, on_gpu = one.config.family, is_on_gpu(spec, one.config)
        try:
            peak = max(peak, footprint(one.config, workers=spec.resources.workers, on_gpu=on_gpu).peak)
        except NotImplementedError as error:
            peak, unknown[family] = max(peak, one.size.state_bytes), f"{family} ({error})"
    return Memory(peak, tuple(unknown.values()))


def is_on_gpu(spec: SearchSpec, config: TrialConfig) -> bool:
    """Whether a trial trains on a GPU."""
    return spec.resources.gpus_per_worker > 0 and config.device != "cpu"


def _dearest(drawn: Iterable[Drawn], workers: int) -> list[Drawn]:
    """The one of each family that looks dearest."""
    families: dict[str, list[Drawn]] = {}
    for one in drawn:
        families.setdefault(one.config.family, []).append(one)
    return [max(some, key=lambda one: _guess(one, workers)) for some in families.values()]


def _guess(one: Drawn, workers: int) -> float:
    """How dear a trial looks, in no unit: its states, and activations by its rows and their tokens."""
    config, size = one.config, one.size
    rows = min(config.micro_batch_size or config.batch_size, -(-config.batch_size // workers))
    rows *= 2 if config.uda.mode in ("fixed", "dynamic") else 1
    tokens = rows * (config.max_text_len + (config.image_size / 16) ** 2)
    return size.state_bytes * (1 + tokens / 2e4 * (0.2 if config.gradient_checkpointing else 1.0))
