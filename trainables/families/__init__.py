"""Model families by name. One file a family; each exports ``MODALITIES``, ``LOSS_TERMS``, ``Config``,
``inputs(config)``, ``droppable(config)`` and ``build(config, task, ports)`` and nothing else."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # the table of families is read without torch
    from trainables.encoders.inputs import Input

FAMILIES: dict[str, str] = {
    "text": "trainables.families.text",
    "image": "trainables.families.image",
    "fusion": "trainables.families.fusion",
    "clip": "trainables.families.clip",
    "lit_tirg": "trainables.families.lit_tirg",
    "mmbt": "trainables.families.mmbt",
    "mmbv": "trainables.families.mmbv",
    "mvae": "trainables.families.mvae",
    "hybrid_vae": "trainables.families.hybrid_vae",
    "flava": "trainables.families.flava",
    "vilt": "trainables.families.vilt",
    "vilbert": "trainables.families.vilbert",
}


class Chosen(Protocol):
    """A family and its own Config: what a TrialConfig is to a family."""

    @property
    def family(self) -> str: ...
    @property
    def model(self) -> Any: ...
    @property
    def seed(self) -> int: ...


def family_module(name: str) -> ModuleType:
    """The module of family ``name``; KeyError if there is none (TrialConfig checks first)."""
    return import_module(FAMILIES[name])


def family_config(name: str) -> Any:
    """The family's own Config class, a pydantic model."""
    return family_module(name).Config


def unlabelled_terms(name: str) -> tuple[str, ...]:
    """Those of the family's own losses that are of every row, labelled or not."""
    return getattr(family_module(name), "UNLABELLED_TERMS", ())


def family_inputs(config: Chosen) -> dict[str, Input]:
    """Modality -> what the config's family reads from it, in the family's order; random encoders by its seed.

    Raises:
        ValueError: an encoder that the family cannot use.
    """
    inputs = family_module(config.family).inputs(config.model)
    return {modality: input.drawn_from(config.seed) for modality, input in inputs.items()}
