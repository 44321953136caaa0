"""Every key of a search file: its default, its range, what it is; read from the models that check it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mmtune.search.samplers import SAMPLERS
from mmtune.search.schedulers import SCHEDULERS
from mmtune.spec.confirm import Confirm
from mmtune.spec.domains import KINDS
from mmtune.spec.sampler import SamplerSpec
from mmtune.spec.sections import Budget, KeepTop, Objective, Resources, SchedulerSpec, SearchFile
from trainables.config import LossConfig, OptimConfig, TrialConfig, UdaConfig
from trainables.messages import show, unknown

_TYPES = {
    "boolean": "true, false", "integer": "int", "number": "float", "string": "text", "null": "null",
    "array": "a list", "object": "a mapping",
}  # fmt: skip
_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


@dataclass(frozen=True)
class Key:
    name: str  # with its section: optim.lr, budget.trials
    default: str  # as YAML has it; '' if it must be given
    about: str  # what it is, its unit, what null means
    schema: Mapping[str, Any]  # JSON Schema of its value

    @property
    def range(self) -> str:
        """What it can be, in words: 'float > 0, <= 10', 'int >= 1 or null'."""
        return _range(self.schema)


@dataclass(frozen=True)
class Group:
    """Keys that stand together."""

    title: str  # as it is written in a file: 'budget', 'optim'
    about: str
    keys: Sequence[Key]


def file_groups() -> list[Group]:
    """The keys of a search file: its top level, its sections, the domains of its space."""
    groups = [Group("", _about(SearchFile), model_keys(SearchFile, is_flat=False))]
    sections = {"objectives[]": Objective, "sampler": SamplerSpec, "scheduler": SchedulerSpec}
    sections |= {"budget": Budget, "resources": Resources, "keep": KeepTop, "confirm": Confirm}
    for title, model in sections.items():
        keys = [key for key in model_keys(model, f"{title}.") if not key.name.endswith(".options")]
        for row in {"sampler": SAMPLERS, "scheduler": SCHEDULERS}.get(title, {}).values():
            own = model_keys(row.options, f"{title}.")
            keys += [replace(key, about=f"name: {row.name}: {key.about}") for key in own]
        groups.append(Group(title, _about(model), keys))
    for name, kind in KINDS.items():
        groups.append(Group(f"space.KEY with type: {name}", _about(kind), model_keys(kind, "space.KEY.")))
    return groups


def config_groups() -> list[Group]:
    """The settings of a trial that all families share, a group for each section of a config."""
    top = [key for key in model_keys(TrialConfig, is_flat=False) if key.name not in ("optim", "uda", "loss", "model")]
    sections = {"optim": OptimConfig, "uda": UdaConfig, "loss": LossConfig}
    inside = [Group(name, _about(model), model_keys(model, f"{name}.")) for name, model in sections.items()]
    return [Group("trial", _about(TrialConfig), top), *inside]


def family_group(family: str) -> Group:
    """A family's own settings.

    Raises:
        ValueError: there is no such family.
    """
    from trainables.families import FAMILIES, family_config, family_module  # imports torch

    if family not in FAMILIES:
        raise ValueError(unknown(family, tuple(FAMILIES)))
    return Group(family, _first(family_module(family).__doc__), model_keys(family_config(family), "model."))


def model_keys(model: type[BaseModel], prefix: str = "", *, is_flat: bool = True) -> list[Key]:
    """The keys of a model; those of its sections as well, instead of the sections, if ``is_flat``."""
    schemas = model.model_json_schema()["properties"]
    keys: list[Key] = []
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        if is_flat and isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += model_keys(kind, f"{prefix}{name}.")
        else:
            schema = {key: value for key, value in schemas[name].items() if key != "title"}
            keys.append(Key(f"{prefix}{name}", _default(field), " ".join((field.description or "").split()), schema))
    return keys


def _about(model: type[BaseModel]) -> str:
    return _first(model.__doc__)


def _first(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    if field.default_factory is not None:
        return "its own"
    value = field.get_default()
    return value if isinstance(value, str) else show(value)


def _range(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_range(part) for part in schema["anyOf"]))
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if values:
        return ", ".join(value if isinstance(value, str) else show(value) for value in values)
    if "$ref" in schema:
        return _TYPES["object"]
    kind = _TYPES.get(schema.get("type", ""), "")
    bounds = ", ".join(f"{sign} {_plain(schema[name])}" for name, sign in _BOUNDS.items() if name in schema)
    return f"{kind} {bounds}".strip()


def _plain(number: float) -> str:
    return show(int(number) if float(number).is_integer() else number)
