"""The commands of docs/recipes.md: search files that ship, on embedded data, their studies, and real options."""

import re
import shlex
from pathlib import Path

import typer.main

from mmtune.cli.app import app
from mmtune.spec.search_spec import load_spec
from mmtune.spec.shipped import shipped_search_files
from trainables.data.formats import dataset_module
from trainables.metrics import METRICS

PAGE = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")


def commands():
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_searches_ship_with_data_that_is_there():
    searched = [words[2] for words in commands() if words[:2] == ["mmtune", "run"]]
    specs = [load_spec(shipped_search_files()[name]) for name in searched]
    assert len(specs) == 4 and all(dataset_module(spec.dataset).IS_EMBEDDED for spec in specs)
    made = {f"studies/{spec.study}" for spec in specs}
    asked = {word for words in commands() for word in words[2:] if word.startswith("studies/")}
    asked |= set(re.findall(r'mmtune\.open\("([^"]+)"\)', PAGE))
    assert asked == made


def test_verbs_take_the_options():
    verbs = typer.main.get_group(app).commands
    for words in commands():
        known = {name for parameter in verbs[words[1]].params for name in parameter.opts}
        assert words[0] == "mmtune" and {word for word in words if word.startswith("--")} <= known, words


def test_columns_are_metrics():
    columns = re.findall(r'"val_(\w+)"', PAGE)
    assert columns and set(columns) <= set(METRICS)
