"""Two search files, and the few families and datasets that they name: stand-ins for the real ones."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from mmtune.spec.document import SpecError
from mmtune.spec.search_spec import load_spec

GOOD = """\
# Fusion with dynamic UDA.
#   mmtune run demo

study: demo
family: fusion
dataset: openclipart
objectives:
  - {metric: val_macro_f1, mode: max}
  - {metric: device_seconds}
fixed: {epochs: 9, batch_size: 32, optim.weight_decay: 0, model.kind: late}
space:
  optim.lr:      {type: float, low: 1.0e-5, high: 5.0e-4, log: true}
  model.dropout: {type: float, low: 0, high: 0.5}
  uda.mode:      {type: categorical, choices: [none, fixed, dynamic]}
  uda.lam:       {type: float, low: 0.01, high: 10.0, log: true, when: {uda.mode: [fixed, dynamic]}}
  uda.n:         {type: int, low: 1, high: 20, log: true,        when: {uda.mode: dynamic}}
  uda.k:         {type: int, low: 0, high: 4, at_most: uda.n,    when: {uda.mode: dynamic}}
try_first:
  - {optim.lr: 5.0e-5, uda.mode: dynamic, uda.lam: 1, uda.n: 5, uda.k: 1}
sampler: {name: tpe, seed: 3, multivariate: true}
scheduler: {name: asha, grace_epochs: 4, reduction_factor: 3}
budget: {trials: 48, device_hours: 200}
resources: {workers: 2, gpus_per_worker: 1, concurrent_trials: 4}
"""

FAMILIES = """\
study: compare
family: {type: categorical, choices: [text, image, fusion]}
dataset: openclipart
fixed: {epochs: 4}
space:
  model.hidden:        {type: categorical, choices: [64, 128]}
  optim.lr:
    - {type: float, low: 1.0e-5, high: 1.0e-4, log: true, when: {family: [text, image]}}
    - {type: float, low: 1.0e-4, high: 1.0e-3, log: true, when: {family: fusion}}
  model.text_encoder:  {type: categorical, choices: [small, large], when: {family: [text, fusion]}}
  model.kind:          {type: categorical, choices: [early, late], when: {family: fusion}}
  model.dropout:       {type: float, low: 0.0, high: 0.5, when: {model.kind: early}}
budget: {wall_hours: 1}
"""


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    hidden: int = Field(64, ge=1)


class _Text(_Config):
    text_encoder: str = "small"


class _Image(_Config):
    image_encoder: str = "small"


class _Fusion(_Config):
    kind: Literal["early", "late"] = "early"
    dropout: float = Field(0.1, ge=0, lt=1)
    text_encoder: str = "small"
    image_encoder: str = "small"


class _Needs(_Config):
    width: int


CONFIGS: dict[str, Any] = {"text": _Text, "image": _Image, "fusion": _Fusion, "needs": _Needs}


def use_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test ends there are no other families and datasets."""
    families, formats = ModuleType("trainables.families"), ModuleType("trainables.data.formats")
    families.FAMILIES = {name: f"trainables.families.{name}" for name in CONFIGS}  # type: ignore[attr-defined]
    families.family_config = CONFIGS.__getitem__  # type: ignore[attr-defined]
    formats.DATASETS = {"openclipart": "...", "moviescope": "..."}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trainables.families", families)
    monkeypatch.setitem(sys.modules, "trainables.data.formats", formats)


def problems(text: str, **how: Any) -> list[tuple[str, int | None, str]]:
    """(key, line, message) of each problem that the text is refused for."""
    with pytest.raises(SpecError) as caught:
        load_spec(text, **how)
    return [(key, line, message) for key, line, message in caught.value.problems]


def line_of(part: str, text: str) -> int:
    """The number of the only line that has the part in it."""
    (line,) = [i for i, line in enumerate(text.splitlines(), 1) if part in line]
    return line
