"""What is predicted: the kind of task and its classes. Standard library only.

Sizes: C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from trainables.messages import unknown

TaskKind = Literal["multiclass", "multilabel", "regression"]


@dataclass(frozen=True)
class Task:
    """What is predicted.

    Attributes:
        kind: 'multiclass' (one class a sample), 'multilabel' (any number) or 'regression' (one number).
        classes: names in the order of the logits; of a regression, empty or the name of the number.
        positive: of two classes, which one the metric f1 is of.
        is_ranking: of two classes: samples are candidates of queries, which their ids name (:mod:`trainables.topk`),
            and are ranked by the second class.
    """

    kind: TaskKind
    classes: tuple[str, ...] = ()
    positive: int = 1
    is_ranking: bool = False

    def __post_init__(self) -> None:
        least, most = {"multiclass": (2, None), "multilabel": (1, None), "regression": (0, 1)}[self.kind]
        if len(self.classes) < least or (most is not None and len(self.classes) > most):
            allowed = f"at least {least}" if most is None else f"at most {most}"
            raise ValueError(f"classes: a {self.kind} task takes {allowed}, got {len(self.classes)}")
        if len(set(self.classes)) < len(self.classes):
            twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
            raise ValueError(f"classes: named twice: {', '.join(twice)}")

    @property
    def is_binary(self) -> bool:
        """Whether each sample is one of two things: two classes, or a multi-label task with a single one."""
        return self.kind != "regression" and len(self.classes) == (2 if self.kind == "multiclass" else 1)

    def with_positive(self, name: str | None) -> Task:
        """The same task with the class ``name`` as its positive one; None leaves the second.

        Raises:
            ValueError: no such class, or not a task of two classes.
        """
        if name is None:
            return self
        if self.kind != "multiclass" or not self.is_binary:
            raise ValueError("positive_class: belongs to tasks with two classes; leave it null")
        if name not in self.classes:
            raise ValueError(f"positive_class: {unknown(name, self.classes)}")
        return replace(self, positive=self.classes.index(name))

    @property
    def num_outputs(self) -> int:
        """Width C of the logits: 1 for a regression, else one a class."""
        return 1 if self.kind == "regression" else len(self.classes)
