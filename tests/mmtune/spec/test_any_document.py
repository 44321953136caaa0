"""Whatever stands in a search file, it loads or its problems are said."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import yaml
from spec_files import FAMILIES, GOOD

from mmtune.space.corners import corners
from mmtune.spec.document import SpecError
from mmtune.spec.search_spec import load_spec

pytestmark = pytest.mark.usefixtures("stand_ins")


def nodes(tree: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all that is in a tree."""
    found = [path] if path else []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found += nodes(value, (*path, key))
    return found


ODDITIES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    10**400,
    2**60,
    1.5,
    float("nan"),
    float("inf"),
    -1e308,
    1e308,
    "",
    "x",
    "1e-5",
    "no",
    "uda.mode",
    "a.b",
    "family",
    [],
    {},
    [[]],
    [None],
    {"": 1},
    {"a": {"b": 1}},
    {"type": "float"},
    [{"type": "int", "low": 0, "high": 1}],
    {"type": "categorical", "choices": []},
    {"type": "categorical", "choices": [[1], {}]},
    "dynamic",
    "fusion",
    "val_loss",
]


def mutate(tree: Any, rng: random.Random) -> Any:
    path = rng.choice(nodes(tree))
    parent = tree
    for part in path[:-1]:
        parent = parent[part]
    other = tree
    for part in rng.choice(nodes(tree)):
        other = other[part]
    kind = rng.randrange(5)
    if kind == 0:
        del parent[path[-1]]
    elif kind == 1:
        parent[path[-1]] = copy.deepcopy(rng.choice(ODDITIES))
    elif kind == 2:
        parent[path[-1]] = copy.deepcopy(other)
    elif kind == 3 and isinstance(parent, dict):
        parent[rng.choice(["x", "low", "uda.mode", "family", "", "when", "1"])] = parent.pop(path[-1])
    elif isinstance(parent, list):
        parent.append(copy.deepcopy(other))
    return tree


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 400, 50))
def test_any_document_loads_or_gives_a_spec_error(start):
    loaded = 0
    for seed in range(start, start + 50):
        rng = random.Random(seed)
        tree = yaml.safe_load(rng.choice([GOOD, FAMILIES]))
        for _ in range(rng.choice([1, 1, 2, 5])):
            tree = mutate(tree, rng)
        text = yaml.safe_dump(tree, default_flow_style=None) + "\n"
        if rng.random() < 0.2:  # torn or garbled text as well
            at = rng.randrange(len(text))
            text = (
                text[:at]
                + rng.choice(["", "\t", "{", "'", "&a ", "- ", ": ", "\x01"])
                + text[at + rng.randrange(3) :]
                + "\n"
            )
        try:
            spec = load_spec(text)
        except SpecError as error:
            assert error.problems and len(str(error).splitlines()) == len(error.problems) + 1
            continue
        loaded += 1
        assert load_spec(spec.to_yaml()) == spec
        for params in corners(spec.space, 20):
            spec.trial_config(params)
    assert loaded > 0  # some changes do no harm


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 200, 100))
def test_any_override_loads_or_gives_a_spec_error(start):
    tree = yaml.safe_load(FAMILIES)
    for seed in range(start, start + 100):
        rng = random.Random(seed)
        key = ".".join(map(str, rng.choice(nodes(tree))))
        value = yaml.safe_dump(rng.choice(ODDITIES), default_flow_style=True).removesuffix("...\n").strip()
        try:
            spec = load_spec(FAMILIES, overrides=[f"{key}={value}"])
        except SpecError as error:
            assert all(isinstance(problem.message, str) for problem in error.problems)
            continue
        assert load_spec(spec.to_yaml()) == spec
