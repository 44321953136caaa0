"""TrialConfig as flat keys (``optim.lr``, ``model.hidden``): which there are, and what each accepts, in our words."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mmtune.spec.validation import UNKNOWN_KEY, Fields, reason, types, with_floats, with_quotes
from trainables.config import TrialConfig
from trainables.messages import did_you_mean, nearest


def known_names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The families and the datasets that there are."""
    from trainables.data.formats import DATASETS
    from trainables.families import FAMILIES  # imports torch

    return tuple(FAMILIES), tuple(DATASETS)


def flat_fields(family: str) -> dict[str, FieldInfo]:
    """Flat key -> field of everything that a TrialConfig of this family can be given."""
    from trainables.families import family_config

    flat = {**_flat(TrialConfig, ""), **_flat(family_config(family), "model.")}
    return {key: field for key, field in flat.items() if key != "model"}


def config_problems(params: dict[str, Any], fields: Fields) -> list[tuple[str, str]]:
    """What TrialConfig says to ``params``, as (flat key, message); the key is '' when it is about none."""
    try:
        TrialConfig.from_params(params)
    except ValidationError as error:
        return [_explain(detail, fields, params) for detail in error.errors(include_url=False)]
    return []


class ConfigKeys:
    """The flat keys that the TrialConfigs of one file take.

    Args:
        families: the ones that the file is about.
        known: every family there is, looked at where ``families`` is empty: the file's family is in doubt.
    """

    def __init__(self, families: Sequence[str], known: Collection[str]) -> None:
        self.families = tuple(families)
        self.fields = {family: flat_fields(family) for family in families or known}

    def key_problem(self, key: str, families: Sequence[str], *, is_fixed: bool = False) -> str | None:
        """Why ``key`` sets nothing, None if it sets a field in each of ``families``."""
        anywhere = {name for fields in self.fields.values() for name in fields}
        has = [family for family in families if key in self.fields.get(family, ())]
        if has and len(has) == len(families):
            return None
        if has:
            lacks = ", ".join(family for family in families if family not in has)
            when = f"when: {{family: [{', '.join(has)}]}}"
            how = f"search it with one choice and {when}" if is_fixed else f"add {when}"
            return f"family {lacks} has no such key; {how}"
        if not families and (key in anywhere or key.startswith("model.")):
            return None  # never exists, or the family is not known
        if any(name.startswith(f"{key}.") for name in anywhere):
            example = next(name for name in sorted(anywhere) if name.startswith(f"{key}."))
            return f"is a section; write flat keys such as {example}"
        section = key.rpartition(".")[0]
        allowed = sorted(name for family in families or self.fields for name in self.fields[family])
        near = [name for name in allowed if name.rpartition(".")[0] == section] if section else []
        names = list(dict.fromkeys(near if near else allowed))
        hint = did_you_mean(key, names) or did_you_mean(key, allowed) or _same_leaf(key, allowed)
        if hint:
            return f"{UNKNOWN_KEY}{hint}"
        few = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        return f"{UNKNOWN_KEY}. Known: {few}"

    def value_problem(self, key: str, value: Any, families: Sequence[str], odd_words: Sequence[str] = ()) -> str | None:
        """Why the field ``key`` cannot be ``value``, judged alone.

        Args:
            odd_words: how booleans in ``value`` were written, see :meth:`mmtune.spec.document.Document.odd_words`.
        """
        if not families and not key.startswith("model."):
            families = tuple(self.fields)[:1]  # the family is not known; all share these keys
        for family in families:
            fields = self.fields[family]
            if key not in fields:
                continue
            base = {"family": family, "dataset": "x", key: value}
            for found, message in config_problems(with_floats(base, fields), fields):
                if found == key:
                    return with_quotes(message, fields[key], odd_words)
        return None

    def is_whole(self, key: str, families: Sequence[str]) -> bool:
        """Whether the field is a whole number in one of ``families``."""
        kinds = [types(self.fields[family][key]) for family in families]
        return any(int in kind and float not in kind for kind in kinds)

    def as_float(self, key: str, value: Any) -> Any:
        """``value`` as a float if it is a number and the field is one."""
        for fields in self.fields.values():
            if key in fields:
                return with_floats({key: value}, fields)[key]
        return value


def _flat(section: type[BaseModel], prefix: str) -> dict[str, FieldInfo]:
    flat: dict[str, FieldInfo] = {}
    for name, field in section.model_fields.items():
        kind: Any = field.annotation
        is_section = isinstance(kind, type) and issubclass(kind, BaseModel)
        flat.update(_flat(kind, f"{prefix}{name}.") if is_section else {f"{prefix}{name}": field})
    return flat


def _explain(detail: ErrorDetails, fields: Fields, params: Mapping[str, Any]) -> tuple[str, str]:
    location = [str(part) for part in detail["loc"]]
    keys = [".".join(location[:end]) for end in range(len(location), 0, -1)]
    key = next((key for key in keys if key in fields or key in params), ".".join(location))
    message = reason(detail, fields.get(key))
    if detail["type"] == "missing":
        return key, f"is missing, family {params.get('family')} needs it"
    named = re.match(r"([a-z_][\w.]*): ", message)  # a check over several fields names the one to change
    if detail["type"] == "value_error" and key not in fields and named is not None and named[1] in fields:
        return named[1], message[named.end() :]
    return key, message


def _same_leaf(key: str, known: Sequence[str]) -> str:
    """', did you mean 'optim.lr'?' for 'lr' or 'learning.lr'."""
    leaves = {name.rpartition(".")[2]: name for name in known}
    near = nearest(key.rpartition(".")[2], leaves, cutoff=0.75)
    return "" if near is None else f", did you mean '{leaves[near]}'?"
