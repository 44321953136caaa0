"""A study in other programs: tensorboard, dashboard, track."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from mmtune.cli import completion
from mmtune.cli.arguments import StudyName
from mmtune.records import find_study, open_study

app = typer.Typer()
Port = Annotated[int, typer.Option("--port", min=1, max=65535, help="On this machine alone.")]


@app.command("tensorboard", epilog="Example: mmtune tensorboard studies/demo-openclipart")
def tensorboard(study: StudyName, port: Port = 6006) -> None:
    """Opens TensorBoard on a study: curves, HParams, and the figures of its report."""
    folder = open_study(find_study(study)).tensorboard
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; no trial has reported yet")
    _become("tensorboard", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", str(port))


@app.command("dashboard", epilog="Example: mmtune dashboard studies/demo-openclipart")
def dashboard(study: StudyName, port: Port = 8080) -> None:
    """Opens optuna-dashboard on a study."""
    log = open_study(find_study(study)).optuna_log
    if not log.is_file():
        raise ValueError(f"{log}: no such file; no trial was proposed yet")
    _become("optuna-dashboard", "optuna_dashboard._cli", str(log), "--host", "127.0.0.1", "--port", str(port))


@app.command("track", epilog="Example: mmtune track studies/demo-openclipart --to mlflow")
def track(
    study: StudyName,
    to: Annotated[
        str, typer.Option("--to", metavar="NAME", help="`mmtune list trackers`.", autocompletion=completion.trackers)
    ] = "mlflow",
) -> None:
    """Sends a study to an experiment tracker, what is not there yet; a search with `trackers:` does it as it runs."""
    from mmtune.trackers.follow import open_tracker, send_all
    from mmtune.trackers.kinds import TRACKERS
    from trainables.messages import unknown

    if to not in TRACKERS:
        raise ValueError(f"--to: {unknown(to, tuple(TRACKERS))}")
    root = find_study(study)
    sent = send_all(root, open_tracker(to, root), is_end=True)
    typer.echo(f"sent: {sent} trials with something new")


def _become(name: str, module: str, *args: str) -> None:
    """Becomes another program: its output and Ctrl-C are its own."""
    if find_spec(module.partition(".")[0]) is None:
        raise ValueError(f"{name} is not installed: pip install 'mmtune[dashboard]'")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *args])
