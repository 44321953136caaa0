"""What TAB offers, asked as bash asks it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmtune.cli.listing import LISTS
from mmtune.records import COSTS
from mmtune.spec.shipped import shipped_search_files
from trainables.data.formats import DATASETS


@pytest.fixture
def tab(mmtune):
    """The words that may follow a beginning of a command line, and an empty one if that ends in a space."""

    def ask(line: str) -> list[str]:
        words = line.split(" ")
        mmtune.env = {"_MMTUNE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        done = mmtune()
        assert (done.code, done.err) == (0, ""), done
        return done.out.split()

    ask.cwd = mmtune.cwd
    return ask


@pytest.mark.slow
def test_verbs(tab):
    assert tab("mmtune r") == ["run", "resume", "report"]
    assert tab("mmtune data pr") == ["preview", "prepare", "prune"]
    assert "--storage" in tab("mmtune run --")


@pytest.mark.slow
@pytest.mark.parametrize(
    "line, names",
    [
        ("mmtune list ", LISTS),
        ("mmtune list keys lit", ["lit_tirg"]),
        ("mmtune data check ", DATASETS),
        ("mmtune data preview open", ["openclipart"]),
        ("mmtune data prepare ", [*DATASETS, *shipped_search_files()]),
        ("mmtune run ", shipped_search_files()),
        ("mmtune check demo/openclipart smoke/fu", ["smoke/fusion"]),
        ("mmtune report s --cost ", COSTS),
        ("mmtune pareto s --metric val_ap_mi", ["val_ap_micro"]),
    ],
)
def test_names(tab, line, names):
    assert tab(line) == [*names]


@pytest.mark.slow
def test_paths_of_search_files(tab):
    for path in ("mine/a.yaml", "mine/notes.txt", "mine/.hidden/b.yaml", "mines.yaml", "min.yml"):
        (tab.cwd / path).parent.mkdir(exist_ok=True, parents=True)
        (tab.cwd / path).touch()
    assert tab("mmtune train m") == ["min.yml", "mines.yaml", "mine/"]
    assert tab("mmtune train mine/") == ["mine/a.yaml"]
    assert tab(f"mmtune train {tab.cwd}/mines") == [f"{tab.cwd}/mines.yaml"]
    (tab.cwd / "mines.yaml").unlink()
    assert tab("mmtune train mine") == []  # one folder: the shell goes on in it
    assert tab("mmtune run mi") == ["min.yml", "mine/"]


@pytest.mark.slow
def test_studies(tab, write_study):
    for where, name in (("studies", "one"), ("studies", "once"), (".", "on"), ("far/away", "two")):
        write_study(tab.cwd / where, name=name)
    (tab.cwd / "studies" / "ontop").mkdir()
    assert tab("mmtune resume on") == ["once", "one", "on"]
    assert tab("mmtune best once far/") == []
    assert tab("mmtune best once far/away/") == ["far/away/two"]
    assert tab("mmtune status nothing") == []
    assert tab("mmtune status no/such/") == []


@pytest.mark.slow
def test_keys(tab, search):
    (tab.cwd / "s.yaml").write_text(search)
    assert tab("mmtune run s.yaml --set fixed.model") == ["fixed.model.text_encoder=", "fixed.model.lock_text="]
    twice = "mmtune check s.yaml --set budget.trials=3 --set space.optim.lr.l"
    assert tab(twice) == ["space.optim.lr.low=", "space.optim.lr.log="]
    assert tab("mmtune run s.yaml --set budget.") == [
        f"budget.{name}=" for name in ("trials", "epochs", "device_hours", "wall_hours")
    ]
    assert tab("mmtune run s.yaml --set fixed.optim.l") == ["fixed.optim.lr=", "fixed.optim.layer_decay="]
    assert tab("mmtune run s.yaml --set fixed.dat") == []
    (tab.cwd / "bad.yaml").write_text("budget: [")
    assert tab("mmtune run bad.yaml nowhere.yaml --set resources.w") == ["resources.workers="]


@pytest.mark.slow
def test_bash_completes(tmp_path):
    """As ``mmtune --install-completion`` sets it up."""
    (tmp_path / "mine.yaml").touch()
    script = """
        eval "$(mmtune --show-completion bash)"
        complete -p mmtune
        for line in "mmtune che" "mmtune check min"; do
            COMP_WORDS=($line) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _mmtune_completion mmtune
            echo "${COMPREPLY[@]}"
        done
    """
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    said = subprocess.check_output(["bash", "-c", script], cwd=tmp_path, env=env, text=True)
    assert said.splitlines() == ["complete -o default -F _mmtune_completion mmtune", "check", "mine.yaml"]


@pytest.mark.slow
def test_nothing_heavy_is_imported():
    lines = ["mmtune ", "mmtune run ", "mmtune resume ", "mmtune data prepare ", "mmtune list "]
    lines += ["mmtune best s --metric ", "mmtune best s --cost ", "mmtune check demo/openclipart --set budget"]
    code = f"""
import os, sys
from mmtune.cli import main
os.environ["_MMTUNE_COMPLETE"] = "complete_bash"
for line in {lines}:
    os.environ |= {{"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}}
    try:
        main()
    except SystemExit:
        pass
print(*{{"ray", "torch", "transformers", "pandas", "optuna"}} & set(sys.modules), "imported")
"""
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert said.splitlines()[-1] == "imported"
