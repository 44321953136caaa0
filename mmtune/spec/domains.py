"""A domain as people write it, ``{type: float, low: 1.0e-5, high: 1.0e-3, log: true}``, and the Domain it becomes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from mmtune.space.domains import Categorical, Domain, Number
from mmtune.spec.document import Document
from mmtune.spec.validation import read_model
from trainables.config import Section
from trainables.messages import describe, number_problem, unknown
from trainables.yamltree import YamlPath

_PLAIN = {"type": ["string", "number", "boolean", "null"]}


def _choice(value: Any) -> Any:
    if isinstance(value, dict | list):
        raise ValueError(f"is {describe(value)}; a choice is a string, a number, true, false or null")
    problem = number_problem(value) if isinstance(value, float) else None
    if problem is not None:
        raise ValueError(problem)
    return value


def _conditions(value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        raise ValueError(f"is {describe(value) if value != {} else 'empty'}; write {{other_key: [values]}}")
    return value


def _values(value: Any) -> list[Any]:
    many = value if isinstance(value, list) else [value]
    if not many:
        raise ValueError("is empty; give at least one value")
    if any(isinstance(one, dict | list) for one in many):
        raise ValueError("a value, or a list of values, is expected")
    return many


_Choice = Annotated[Any, AfterValidator(_choice), WithJsonSchema(_PLAIN)]
_OneOrMore = {"anyOf": [_PLAIN, {"type": "array", "items": _PLAIN, "minItems": 1}]}
_Values = Annotated[list[Any], BeforeValidator(_values), WithJsonSchema(_OneOrMore)]
_When = Annotated[dict[str, _Values], BeforeValidator(_conditions), Field(min_length=1)]


def _prior(value: Any) -> Any:
    if value is not None and not (isinstance(value, dict) and set(value) == set(NumberPrior.model_fields)):
        raise ValueError("write {mode: the likeliest value, width: how far from it}")
    return value


class NumberPrior(Section):
    """What is believed of a number before anything is tried."""

    mode: float
    """The likeliest value."""
    width: float
    """Two thirds lie no further from it, until the ends of the range; with log: true a factor."""


class CategoricalDomain(Section):
    """One of several values."""

    type: Literal["categorical"]
    """One of several values."""
    choices: list[_Choice]
    """The values: strings, numbers, true, false, null."""
    prior: list[float] | None = None
    """What is believed: a weight for each choice, in their order; null: nothing."""
    when: _When | None = None
    """Exists only where each key named here has one of its values: {uda.mode: [fixed, dynamic]}; null: always."""


class FloatDomain(Section):
    """A number in a range."""

    type: Literal["float"]
    """A number in a range."""
    low: float
    """Lower end, included."""
    high: float
    """Upper end, included."""
    log: bool = False
    """Whether it is searched by its logarithm."""
    step: float | None = None
    """Distance of neighbouring values, a divisor of the range; null: any value."""
    at_most: str | None = None
    """A searched number that is the upper end where it is below high; null: none."""
    prior: Annotated[NumberPrior | None, BeforeValidator(_prior)] = None
    """What is believed: {mode: 1.0e-3, width: 3}; null: nothing."""
    when: _When | None = None
    """Exists only where each key named here has one of its values: {uda.mode: [fixed, dynamic]}; null: always."""


class IntDomain(FloatDomain):
    """A whole number in a range."""

    type: Literal["int"]
    """A whole number in a range."""
    low: int
    """Lower end, included."""
    high: int
    """Upper end, included."""
    step: int | None = None
    """Distance of neighbouring values, a divisor of the range; null: each whole number."""


KINDS: dict[str, type[FloatDomain] | type[IntDomain] | type[CategoricalDomain]] = {
    "float": FloatDomain,
    "int": IntDomain,
    "categorical": CategoricalDomain,
}
_KEYS = tuple(dict.fromkeys(key for kind in KINDS.values() for key in kind.model_fields))


def read_domain(
    document: Document, path: YamlPath, value: Any, *, can_depend: bool = True, left_out: Collection[str] = ()
) -> Domain | None:
    """The domain at ``path``; None, with a problem noted, if it is not understood.

    Args:
        can_depend: whether it may have a ``when``.
        left_out: families that this search leaves out: conditions may name them, it is no mistake.
    """
    if not isinstance(value, dict):
        document.bad(path, f"is {describe(value)}; a domain is such as {{type: float, low: 0.0, high: 1.0}}")
        return None
    kind, before = value.get("type"), len(document.problems)
    if kind is None:
        document.bad(path, f"has no type: {', '.join(KINDS)}")
    elif document.is_text(kind, (*path, "type")) and kind not in KINDS:
        document.bad((*path, "type"), unknown(kind, list(KINDS)))
    anywhere = [key for key in _KEYS if can_depend or key != "when"]
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        document.known_keys(path, value, anywhere)
        return None
    own = [key for key in anywhere if key in model.model_fields]
    strange = [key for key in value if key in anywhere and key not in own]
    document.known_keys(path, {key: one for key, one in value.items() if key not in strange}, own)
    for key in strange:
        document.bad((*path, key), f"has no meaning for type: {kind}")
    written = read_model(document, path, {key: one for key, one in value.items() if key in own}, model)
    return _domain(written, left_out) if written is not None and len(document.problems) == before else None


def _domain(written: FloatDomain | CategoricalDomain, left_out: Collection[str]) -> Domain:
    when = {
        key: tuple(value for value in values if key != "family" or value not in left_out)
        for key, values in (written.when or {}).items()
    }
    if isinstance(written, CategoricalDomain):
        return Categorical(tuple(written.choices), when, None if written.prior is None else tuple(written.prior))
    prior = None if written.prior is None else (written.prior.mode, written.prior.width)
    ends = {"low": written.low, "high": written.high, "step": written.step, "at_most": written.at_most}
    return Number(**ends, is_int=isinstance(written, IntDomain), log=written.log, when=when, prior=prior)
