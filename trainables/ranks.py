"""The processes that train one trial together, and how they tell each other things: Python objects over gloo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
import torch.distributed

from trainables.errors import AgreedError, FaultError, OutOfMemoryError, is_fault

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one trial."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: Any = None  # a gloo group, for objects; None when world is 1

    def gather(self, value: T) -> list[T]:
        """``value`` of every rank, in rank order, on every rank."""
        if self.world == 1:
            return [value]
        out: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(out, value, group=self.group)
        return out

    def most(self, value: int) -> int:
        """The largest ``value`` of all ranks, on every rank; quick enough for each step."""
        if self.world == 1:
            return value
        box = torch.tensor([value])
        torch.distributed.all_reduce(box, torch.distributed.ReduceOp.MAX, group=self.group)
        return int(box.item())

    def broadcast(self, value: Any) -> Any:
        """Rank 0's ``value`` on every rank."""
        if self.world == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def raise_together(self, error: Exception | None) -> None:
        """Returns if no rank has an error; all of them call it.

        Raises:
            AgreedError: on every rank, what the first of them says; a single rank's own error as it was.
        """
        if self.world == 1:
            if error is not None:
                raise error
            return
        mine = None if error is None else f"{type(error).__name__}: {error}"
        kind = AgreedError
        if error is not None and is_fault(error):
            kind = FaultError
        elif isinstance(error, torch.cuda.OutOfMemoryError):
            kind = OutOfMemoryError
        for rank, (text, of_kind) in enumerate(self.gather((mine, kind))):
            if text is not None:
                raise of_kind(f"rank {rank}: {text}") from error

    def check_same(self, value: object, *, name: str, where: str) -> None:
        """Returns if every rank has the same ``value``, which ``name`` says what it is and ``where`` what of.

        Raises:
            AgreedError: on every rank, with the first that differs from rank 0's.
        """
        values = self.gather(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise AgreedError(f"rank {rank}: {where} is of {name} {other}, but rank 0 found {name} {values[0]}")


def is_lost_peer(error: BaseException) -> bool:
    """Whether a collective failed: another rank is gone, which says nothing of what this one computes.

    gloo has no class for that; its messages open with the source file that they come from.
    """
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and "/gloo/" in str(error).partition("]")[0]
    )


def best_device(wanted: Literal["auto", "cpu", "gpu"] = "auto", rank: int = 0) -> torch.device:
    """The GPU of a rank on its own machine, or the CPU.

    Raises:
        ValueError: a GPU is wanted that is not there.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if rank >= torch.cuda.device_count():
        raise ValueError(f"device: {wanted}: worker {rank} has no GPU here; write device: cpu or fewer workers")
    return torch.device("cuda", rank)
