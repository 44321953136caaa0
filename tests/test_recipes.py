"""The commands of docs/recipes.md: search files that ship, on embedded data, their studies, and real options; those
whose searches are quick when they are small are run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from mmtune.cli.app import app
from mmtune.spec.search_spec import load_spec
from mmtune.spec.shipped import shipped_search_files
from trainables.data.formats import dataset_module
from trainables.metrics import METRICS

PAGE = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")


SMALL = {  # what makes a search of seconds of it
    "fusion/emoji_entailment": {
        "budget.trials": 3, "fixed.epochs": 2, "fixed.image_size": 16, "fixed.max_train_rows": 128,
        "fixed.model.text_encoder": "tiny-bert", "fixed.model.image_encoder": "tiny-cnn",
    },
    "clip/emoji": {
        "budget.trials": 2, "fixed.epochs": 2, "scheduler.grace_epochs": 1, "fixed.image_size": 16,
        "fixed.max_train_rows": 128,
    },
}  # fmt: skip


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands():
    return [shlex.split(line) for block in blocks("bash") for line in block.splitlines()]


def test_searches_ship_with_data_that_is_there():
    searched = [words[2] for words in commands() if words[:2] == ["mmtune", "run"]]
    specs = [load_spec(shipped_search_files()[name]) for name in searched]
    assert len(specs) == 6 and all(dataset_module(spec.dataset).IS_EMBEDDED for spec in specs)
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


@pytest.mark.slow
def test_small_searches_answer(tmp_path):
    """Each line of the page about them, as it is but for what makes the search small; and the page's Python."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    said, studies = {}, {f"studies/{load_spec(shipped_search_files()[name]).study}" for name in SMALL}
    for words in commands():
        if words[1] == "run" and words[2] in SMALL:
            made = [f"--set={key}={value}" for key, value in SMALL[words[2]].items()]
            words = [*words, *made]  # the last --set of a key is what holds
        elif not studies.intersection(words):
            continue
        said[" ".join(words[1:3])] = run([sys.executable, "-m", "mmtune.cli", *words[1:]], tmp_path, environment)
    (python,) = blocks("python")
    said["python"] = run([sys.executable, "-c", python], tmp_path, environment)
    assert len(said) == 2 * len(SMALL) + 1
    assert "gain of image: " in said["compare studies/fusion-emoji_entailment"]
    assert "val_image_to_text_recall_at_5" in said["python"] and (tmp_path / "studies/clip-emoji/report").is_dir()


def run(words, folder, environment):
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout
