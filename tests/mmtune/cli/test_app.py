"""The command itself: help, version, what it imports, how it ends when something is wrong."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import mmtune as package
from mmtune.cli.app import Verbs

VERBS = ("check", "run", "resume", "status", "best", "pareto", "report", "train", "list")
DATA_VERBS = ("check", "preview", "prepare", "list", "prune")


@pytest.mark.slow
@pytest.mark.parametrize("verb", [None, *VERBS, *(f"data {verb}" for verb in DATA_VERBS)])
def test_help_ends_in_an_example(mmtune, verb):
    done = mmtune(*(verb.split() if verb else []), "--help")
    assert done.code == 0 and done.err == ""
    assert re.match(rf"  Example: mmtune {verb or 'run'} \S", done.out[done.out.rindex("\n\n") + 2 :])
    assert verb is not None or all(f"\n  {name} " in done.out and "..." in done.out for name in (*VERBS, "data"))


@pytest.mark.parametrize("code", ["import mmtune", "import mmtune.cli.app", "from mmtune.cli import main; main()"])
def test_nothing_heavy_is_imported_before_it_is_needed(code):
    heavy = "ray", "torch", "pandas", "optuna", "numpy", "transformers", "pydantic", "yaml"
    probe = f"import sys, atexit; atexit.register(lambda: print([m for m in {heavy} if m in sys.modules]))\n{code}"
    done = subprocess.run([sys.executable, "-c", probe, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("module, said", [("ray", ""), ("none", "taken down\n")])
def test_where_ray_was_the_process_ends_at_once(module, said):
    code = f"""if True:
        import atexit, sys
        sys.modules[{module!r}] = sys
        atexit.register(print, "taken down")
        from mmtune.cli import main
        main()"""
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"mmtune {package.__version__}\n{said}"


@pytest.mark.slow
def test_it_is_a_command(tmp_path):
    done = subprocess.run([sys.executable, "-m", "mmtune.cli", "list", "metrics"], capture_output=True, text=True)
    assert done.returncode == 0 and "val_ap_micro" in done.stdout and "device_seconds" in done.stdout


@pytest.mark.slow
def test_version(mmtune):
    done = mmtune("--version")
    assert (done.code, done.out, done.err) == (0, f"mmtune {package.__version__}\n", "")


@pytest.mark.parametrize(
    "error, code, message",
    [
        (ValueError("two\nlines"), 2, "mmtune: two\nlines\n"),
        (FileNotFoundError(2, "No such file or directory", "x.yaml"), 2, "mmtune: x.yaml: No such file or directory\n"),
        (KeyboardInterrupt(), 130, "stopped at once\n"),
    ],
)
def test_what_a_user_can_cause_is_a_message(error, code, message):
    done = ending(error)
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", message)


@pytest.mark.parametrize("error", [OSError("no file's"), KeyError("x")])
def test_what_only_we_can_cause_is_a_traceback(error):
    assert ending(error).exception is error


def ending(error):
    """What comes of a verb that raises ``error``."""
    app = typer.Typer(cls=Verbs, pretty_exceptions_enable=False)
    group = typer.Typer()
    app.add_typer(group, name="group")

    @group.command("fail")
    def fail():
        raise error

    @group.command("work")
    def work():
        pass

    return CliRunner().invoke(app, ["group", "fail"])
