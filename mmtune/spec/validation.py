"""pydantic checks, we word it: the fields of a TrialConfig and of a search file alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mmtune.spec.document import Document
from trainables.messages import describe, number_problem, show, unknown
from trainables.yamltree import YamlPath

UNKNOWN_KEY = "unknown key"
Fields = Mapping[str, FieldInfo]
Model = TypeVar("Model", bound=BaseModel)

_BOUNDS = (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))
_WORDS = {
    "bool_type": "{given} is neither true nor false",
    "string_type": "is {given}; a string is expected",
    "list_type": "is {given}; a list is expected",
    "extra_forbidden": UNKNOWN_KEY,
}


def read_model(document: Document, path: YamlPath, given: Mapping[str, Any], model: type[Model]) -> Model | None:
    """``given``, what is written at ``path``, as a ``model``; every problem is noted.

    What is wrong takes its default, as null does where a field cannot be null; None if it has none.
    """
    fields = model.model_fields
    values = {key: value for key, value in given.items() if key in fields}
    values = {key: value for key, value in values.items() if value is not None or fields[key].is_required()}
    while True:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            wrong = _noted(document, path, error, fields)
        if wrong.isdisjoint(values):
            return None
        values = {key: value for key, value in values.items() if key not in wrong}


def reason(detail: ErrorDetails, field: FieldInfo | None) -> str:
    """Why a field cannot have the value that it was given.

    Args:
        detail: one of pydantic's ``errors()``.
        field: None if the error is about no field.
    """
    error, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    given = describe(value)
    if error == "value_error":
        return str(context.get("error", detail["msg"]))
    for name, words in _BOUNDS:
        if name in context:
            bound = context[name]
            is_whole = isinstance(value, int) and isinstance(bound, float) and bound.is_integer()
            return f"{given} must be {words} {show(int(bound) if is_whole else bound)}"
    if error == "literal_error":
        return unknown(value, _literals(None if field is None else field.annotation))
    if error in ("float_type", "int_type", "finite_number"):
        if isinstance(value, dict | list):
            return f"is {given}; a number is expected"
        return number_problem(value, is_int=error == "int_type") or f"{given} is not a number"
    if error in _WORDS:
        return _WORDS[error].format(given=given)
    return f"{given}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"


def with_quotes(message: str, field: FieldInfo, odd_words: Sequence[str]) -> str:
    """``message``, opened by how YAML reads the value where the field is a word and the value a boolean.

    Args:
        odd_words: how booleans of the value were written, see :meth:`mmtune.spec.document.Document.odd_words`.
    """
    if odd_words and str in types(field):
        return f"YAML reads {odd_words[0]}; quote it"
    return f"YAML reads {odd_words[0]}; quote it. {message}" if odd_words and _literals(field.annotation) else message


def with_floats(values: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """``values`` with whole numbers as floats where the field is one: configs are strict, YAML's 1 is an int."""
    made = dict(values)
    for key, value in values.items():
        kinds = types(fields[key]) if key in fields else set()
        if type(value) is int and float in kinds and int not in kinds and number_problem(value) is None:
            made[key] = float(value)
    return made


def types(field: FieldInfo) -> set[Any]:
    """The types that a field takes."""
    return set(get_args(field.annotation)) or {field.annotation}


def _noted(document: Document, path: YamlPath, error: ValidationError, fields: Fields) -> set[str]:
    """Notes the first problem of each place; the fields that are wrong."""
    wrong: set[str] = set()
    seen: set[YamlPath] = set()
    for detail in error.errors(include_url=False):
        if detail["type"] == "default_factory_not_called":  # said beside the error that is its reason
            continue
        key = str(detail["loc"][0]) if detail["loc"] else ""
        if detail["type"] == "missing":
            if not document.has_problem(path):  # else it may stand there under another name
                document.bad(path, f"has no {key}")
            continue
        message = reason(detail, fields.get(key))
        if not key:
            key, message = _named(message, fields)
        at = (*path, *([key] if key else []), *_inside(document, (*path, key), detail["loc"][1:]))
        if key in fields:
            message = with_quotes(message, fields[key], document.odd_words(at))
        if at not in seen:
            document.bad(at, message)
        seen.add(at)
        wrong.add(key)
    return wrong


def _named(message: str, fields: Collection[str]) -> tuple[str, str]:
    """The field that a check over several opens its message with, and the rest; '' if it names none."""
    name, colon, rest = message.partition(": ")
    return (name, rest) if colon and name in fields else ("", message)


def _inside(document: Document, path: YamlPath, location: Sequence[Any]) -> YamlPath:
    """The part of a pydantic location that is written in the file: it names the members of unions too."""
    found: YamlPath = ()
    here: Any = document.at(path)
    for part in location:
        is_written = part in here if isinstance(here, dict) else isinstance(here, list) and isinstance(part, int)
        if is_written:
            found, here = (*found, part), here[part]
    return found


def _literals(annotation: Any) -> tuple[Any, ...]:
    """The values that a type names, those of a union's members too."""
    members = get_args(annotation)
    if get_origin(annotation) is Literal:
        return members
    return tuple(dict.fromkeys(value for member in members for value in _literals(member)))
