"""What is predicted: the kind of task and its classes. Standard library only.

Sizes: C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TaskKind = Literal["multiclass", "multilabel", "regression"]


@dataclass(frozen=True)
class Task:
    """What is predicted.

    Attributes:
        kind: 'multiclass' (one class a sample), 'multilabel' (any number) or 'regression' (one number).
        classes: names in the order of the logits; of a regression, empty or the name of the number.
    """

    kind: TaskKind
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        least, most = {"multiclass": (2, None), "multilabel": (1, None), "regression": (0, 1)}[self.kind]
        if len(self.classes) < least or (most is not None and len(self.classes) > most):
            allowed = f"at least {least}" if most is None else f"at most {most}"
            raise ValueError(f"classes: a {self.kind} task takes {allowed}, got {len(self.classes)}")
        if len(set(self.classes)) < len(self.classes):
            twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
            raise ValueError(f"classes: named twice: {', '.join(twice)}")

    @property
    def num_outputs(self) -> int:
        """Width C of the logits: 1 for a regression, else one a class."""
        return 1 if self.kind == "regression" else len(self.classes)
