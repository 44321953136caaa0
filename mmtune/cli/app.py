"""The command: its groups of verbs, --version, and how it ends when something is wrong."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import mmtune
from mmtune.cli import answer, data, elsewhere, export, inspect, model, results, show, study
from mmtune.storage.store import is_url


class Verbs(TyperGroup):
    """What a user can cause is one message and exit code 2, not a traceback; Ctrl-C is 130."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keeps the arguments, to look for what no path is: '' would be the working folder, s3://x a folder 's3:'."""
        ctx.meta["mmtune.args"] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb that the command line names."""
        try:
            _check_values(ctx.meta["mmtune.args"])
            return super().invoke(ctx)
        except ValueError as error:
            message = str(error)
        except OSError as error:
            if error.filename is None:
                raise
            message = f"{error.filename}: {error.strerror}"
        except KeyboardInterrupt as end:
            typer.echo(str(end) or "stopped at once", err=True)
            raise typer.Exit(130) from None
        typer.echo(f"mmtune: {message}", err=True)
        raise typer.Exit(2)


_WRITTEN = ("--out", "--to", "--export")  # options that name a file or folder to write


def _check_values(args: list[str]) -> None:
    """Refuses what would be taken for another path than was meant."""
    for before, arg in zip(["", *args], args, strict=False):
        option, sign, value = arg.partition("=") if arg.startswith("--") else (before, "=", arg)
        if sign and not value.strip():
            raise ValueError(f"{option}: is empty" if option.startswith("--") else "an argument is empty")
        if option in _WRITTEN and is_url(value):
            raise ValueError(f"{option} {value}: is a URL; give a path on this machine")


app = typer.Typer(
    name="mmtune",
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Example: mmtune run demo/openclipart",
)
for group in (study.app, results.app, model.app, answer.app, inspect.app, export.app, elsewhere.app, show.app):
    app.add_typer(group)
app.add_typer(data.app, name="data")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"mmtune {mmtune.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Prints the version.")
    ] = False,
) -> None:
    """Hyperparameter search for multimodal classification, on Ray."""
