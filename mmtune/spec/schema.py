"""The JSON Schema (draft 7) of a search file: what an editor completes and checks while one is written.

It is made from the models and tables that ``mmtune check`` reads. What depends on more than one place of a file
(conditions that exclude each other, values that do not fit together) only ``check`` knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mmtune.records import COSTS
from mmtune.search.samplers import SAMPLERS
from mmtune.search.schedulers import SCHEDULERS
from mmtune.spec.confirm import Confirm
from mmtune.spec.constraints import LIMITED
from mmtune.spec.domains import KINDS
from mmtune.spec.keys import Key, config_groups, family_group, model_keys
from mmtune.spec.sampler import SamplerSpec
from mmtune.spec.sections import (
    NOT_FIXED,
    NOT_SEARCHED,
    STUDY_NAME,
    Budget,
    KeepTop,
    Objective,
    Resources,
    SchedulerSpec,
    SearchFile,
    mode_of,
)
from mmtune.trackers.kinds import TRACKERS
from trainables.metrics import objective_names

Schema = dict[str, Any]
SCHEMA_FILE = Path(__file__).parents[1] / "search_spaces" / "schema.json"  # the one that comes with mmtune


def schema_text() -> str:
    """The schema of a search file as JSON."""
    return json.dumps(search_schema(), indent=1, ensure_ascii=False) + "\n"


def search_schema() -> Schema:
    """The schema of a search file."""
    from trainables.data.formats import DATASETS, dataset_module
    from trainables.families import FAMILIES  # imports torch

    shared = [key for group in config_groups() for key in group.keys]
    settings = _Settings(shared, {family: family_group(family).keys for family in FAMILIES})
    properties = {key.name: Schema(description=key.about) for key in model_keys(SearchFile, is_flat=False)}
    properties["study"] |= {"type": ["string", "null"], "pattern": f"^{STUDY_NAME}$"}
    properties["family"] |= {"if": {"type": "object"}, "then": _several(FAMILIES), "else": {"enum": [*FAMILIES]}}
    properties["dataset"] |= {"enum": [*DATASETS]}
    properties["objectives"] |= _objectives()
    limit = {"type": "string", "pattern": "^\\s*<=\\s*\\S+\\s*$"}
    properties["constraints"] |= {
        "type": ["object", "null"], "properties": dict.fromkeys(LIMITED, limit), "additionalProperties": False,
    }  # fmt: skip
    properties["fixed"] |= {"type": ["object", "null"]}
    properties["space"] |= {"type": ["object", "null"]}
    properties["try_first"] |= {"type": ["array", "null"]}
    properties["sampler"] |= _with_options(SamplerSpec, {name: row.options for name, row in SAMPLERS.items()})
    properties["scheduler"] |= _with_options(SchedulerSpec, {name: row.options for name, row in SCHEDULERS.items()})
    properties["budget"] |= _section(Budget) | {"anyOf": [{"required": [name]} for name in Budget.model_fields]}
    properties["resources"] |= _section(Resources)
    properties["keep"] |= {"anyOf": [{"enum": ["best", "all", None]}, _section(KeepTop)]}
    properties["confirm"] |= _section(Confirm)
    properties["trackers"] |= {"type": ["array", "null"], "items": {"enum": [*TRACKERS]}, "uniqueItems": True}
    properties["finalists"] |= {"type": ["object", "null"], "additionalProperties": {"type": "object"}}
    seed = {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**32}
    properties["seeds"] |= {"type": ["array", "null"], "items": seed, "minItems": 1, "uniqueItems": True}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "mmtune search file",
        "type": "object",
        "properties": _merged(properties, settings.of_all()["properties"]),
        "required": [name for name, field in SearchFile.model_fields.items() if field.is_required()],
        "additionalProperties": False,
        "allOf": [
            *(_if("family", {"const": family}, settings.of([family])) for family in FAMILIES),
            _if("family", {"type": "object"}, settings.of([*FAMILIES])),
            *(_if("dataset", {"const": name}, _target(dataset_module(name).TARGETS)) for name in DATASETS),
        ],
        "definitions": settings.definitions,
    }


# --- fixed, space, try_first ----------------------------------------------------------------------------
class _Settings:
    """The sections that name settings; what a setting can be is defined once, families that agree share it.

    Args:
        shared: the settings of every family.
        own: family -> its own settings.
    """

    def __init__(self, shared: Sequence[Key], own: Mapping[str, Sequence[Key]]) -> None:
        self.shared, self.own = shared, {family: {key.name: key for key in keys} for family, keys in own.items()}
        names = [key.name for key in shared]
        everything = dict.fromkeys([*names, *(name for keys in self.own.values() for name in keys)])
        domains = {f"{kind}-domain": _domain(model) for kind, model in KINDS.items()}
        by_kind = [_if("type", {"const": kind}, {"$ref": f"#/definitions/{kind}-domain"}) for kind in KINDS]
        properties = {"type": {"enum": [*KINDS]}}
        self.definitions: dict[str, Schema] = {
            "keys": {"enum": [*everything]},
            "fixed-keys": {"enum": [name for name in names if name not in NOT_FIXED]},
            "searched-keys": {"enum": [name for name in names if name not in NOT_SEARCHED]},
            "domain": {"type": "object", "properties": properties, "required": ["type"], "allOf": by_kind},
            **domains,
        }
        self.names = {json.dumps(schema): name for name, schema in self.definitions.items()}

    def of_all(self) -> Schema:
        """The settings that all families have."""
        return self._sections({key.name: [self._value(key)] for key in self.shared}, self.shared)

    def of(self, families: Sequence[str]) -> Schema:
        """The settings that one of ``families`` has of its own; no other key is left."""
        keys = [key for family in families for key in self.own[family].values()]
        values: dict[str, list[Schema]] = {}
        for family in families:
            for key in self.own[family].values():
                value = self._value(key, family)
                values[key.name] = [*(one for one in values.get(key.name, []) if one != value), value]
        sections = self._sections(values, keys)
        several = {"family": {"enum": [*families]}} if len(families) > 1 else {}
        for name, section in sections["properties"].items():
            inside, allowed = section.get("items", section), "fixed-keys" if name == "fixed" else "searched-keys"
            more = [*values, *(several if name == "try_first" else ())]
            inside["propertyNames"] = {"anyOf": [{"$ref": f"#/definitions/{allowed}"}, {"enum": more}]}
        sections["properties"]["try_first"]["items"]["properties"] |= several
        return sections

    def _sections(self, values: Mapping[str, list[Schema]], keys: Sequence[Key]) -> Schema:
        either = {name: some[0] if len(some) == 1 else {"anyOf": some} for name, some in values.items()}
        fixed = {name: value for name, value in either.items() if name not in NOT_FIXED}
        searched = {name: value for name, value in either.items() if name not in NOT_SEARCHED}
        kinds = {name: [key for key in keys if key.name == name] for name in searched}
        space = {name: self._domains(kinds[name], value) for name, value in searched.items()}
        rows = {"items": {"type": "object", "properties": searched}}
        return {"properties": {"fixed": {"properties": fixed}, "space": {"properties": space}, "try_first": rows}}

    def _value(self, key: Key, family: str = "") -> Schema:
        """What one setting can be, in one family."""
        return self._ref(f"{key.name}@{family}" if family else key.name, _described(key))

    def _domains(self, keys: Sequence[Key], value: Schema) -> Schema:
        """A domain of one setting, or a list of them.

        Args:
            keys: the setting, of each family that has it.
            value: what it can be.
        """
        kinds = {part.get("type") for key in keys for part in key.schema.get("anyOf", [key.schema])}
        numbers = ["float", "int"] if "number" in kinds else ["int"] if "integer" in kinds else []
        ends = {"low": value, "high": value} if numbers else {}
        own = {"type": {"enum": [*numbers, "categorical"]}, **ends, "choices": {"items": value}}
        name, about = keys[0].name, keys[0].about
        domain = self._ref(f"domain:{name}", {"allOf": [{"$ref": "#/definitions/domain"}, {"properties": own}]})
        either = {"if": {"type": "array"}, "then": {"items": domain, "minItems": 1}, "else": domain}
        return self._ref(f"domains:{name}", {"description": about, **either})

    def _ref(self, name: str, schema: Schema) -> Schema:
        text = json.dumps(schema)
        if text not in self.names:
            number = sum(other.partition("+")[0] == name for other in self.definitions)
            self.names[text] = f"{name}+{number}" if number else name
            self.definitions[self.names[text]] = schema
        return {"$ref": f"#/definitions/{self.names[text]}"}


def _target(targets: Iterable[str]) -> Schema:
    """The labels that a dataset has; a table's are not known."""
    names = [*targets]
    return {"properties": {"fixed": {"properties": {"target": {"enum": [*names, None]}}}}} if names else {}


def _domain(model: type[BaseModel]) -> Schema:
    """A domain; what it depends on are settings."""
    schema = _section(model)
    for option in schema["properties"]["when"]["anyOf"]:
        if option["type"] == "object":
            option["propertyNames"] = {"$ref": "#/definitions/keys"}
    if "at_most" in schema["properties"]:
        schema["properties"]["at_most"]["anyOf"][0] = {"$ref": "#/definitions/keys"}
    return schema | {"type": "object"}


# --- the other sections ---------------------------------------------------------------------------------
def _section(model: type[BaseModel], **properties: Schema) -> Schema:
    """A section; null where none of its keys must be given."""
    keys = {key.name: _described(key) for key in model_keys(model)}
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    return {
        "type": "object" if required else ["object", "null"],
        "properties": _merged(keys, properties),
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _with_options(model: type[BaseModel], options: Mapping[str, type[BaseModel]]) -> Schema:
    """A section whose ``name`` decides which other keys there are."""
    shared = {key.name: _described(key) for key in model_keys(model) if key.name != "options"}
    branches = []
    for name, kind in options.items():
        own = {key.name: _described(key) for key in model_keys(kind)}
        test = {
            "properties": {"name": {"const": name}},
            **({} if name == model.model_fields["name"].default else {"required": ["name"]}),
        }
        branches.append({"if": test, "then": {"properties": own, "propertyNames": {"enum": [*shared, *own]}}})
    named = _merged(shared, {"name": {"enum": [*options]}})
    return {"type": ["object", "null"], "properties": named, "allOf": branches}


def _objectives() -> Schema:
    """The first is a metric; the mode is the metric's own."""
    metrics, modes = objective_names(), []
    both = (*metrics, *COSTS)
    for mode in ("max", "min"):
        names = [name for name in both if mode_of(name) == mode]
        modes.append(_if("metric", {"enum": names}, {"properties": {"mode": {"const": mode}}}))
    first, other = (_section(Objective, metric={"enum": [*names]}) | {"allOf": modes} for names in (metrics, both))
    return {"type": ["array", "null"], "minItems": 1, "items": [first], "additionalItems": other}


def _several(families: Iterable[str]) -> Schema:
    """A searched family."""
    domain = _section(KINDS["categorical"])
    domain["properties"].pop("when")
    domain["properties"]["choices"] |= {"items": {"enum": [*families]}, "minItems": 1}
    return domain | {"type": "object"}


def _described(key: Key) -> Schema:
    return {"description": key.about, **{name: value for name, value in key.schema.items() if name != "description"}}


def _merged(properties: Mapping[str, Schema], more: Mapping[str, Schema]) -> Schema:
    return {name: {**properties.get(name, {}), **more.get(name, {})} for name in (*properties, *more)}


def _if(key: str, test: Schema, then: Schema) -> Schema:
    return {"if": {"properties": {key: test}, "required": [key]}, "then": then}
