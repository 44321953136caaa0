"""Before and during a search: check, run, resume, status."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmtune.cli import completion
from mmtune.cli.arguments import Address, Data, Files, Overrides, StudyName
from mmtune.cli.output import print_table, size, watching_caches
from mmtune.records import STORAGE, find_study, open_study

if TYPE_CHECKING:
    import pandas as pd

    from mmtune.slots.cluster import Node
    from mmtune.spec.search_spec import SearchSpec
    from mmtune.study.disk import Disk
    from mmtune.study.session import Ending

app = typer.Typer()
_SHOWN = 10  # trials in a table


@app.command("check", epilog="Example: mmtune check demo/openclipart --set budget.trials=4")
def check(files: Files, data: Data = None, address: Address = None, overrides: Overrides = None) -> None:
    """Says what is wrong with search files, or what they would do."""
    from mmtune.slots.cluster import nodes_of

    problems = []
    with nodes_of(address) as nodes:
        for file in files:
            try:
                _check(file, nodes, data=data, overrides=overrides or ())
            except ValueError as error:
                problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))


def _check(file: str, nodes: Sequence[Node], *, data: str | None, overrides: Sequence[str]) -> None:
    from mmtune.spec.search_spec import load_spec
    from mmtune.spec.shipped import find_search_file
    from mmtune.study.plan import make_plan

    spec = load_spec(find_search_file(file), overrides=overrides)
    with watching_caches():
        plan = make_plan(spec, nodes, data_dir=data)
    typer.echo(f"{spec.source}: fine")
    workers = f"{spec.resources.workers} worker{'s' * (spec.resources.workers > 1)}"
    rows = [
        ("trials", "no limit" if plan.trials is None else f"{plan.trials}, {plan.epochs} epochs at most"),
        ("at the same time", f"{plan.slots}, of {workers} each; {plan.workers_fit} workers can be placed"),
        ("searched", ", ".join(spec.space.keys) or "nothing"),
        ("objective", ", ".join(f"{item.metric} ({item.mode})" for item in plan.spec.objectives)),
        ("sampler, scheduler", f"{spec.sampler.name}, {spec.scheduler.name}"),
        ("memory a worker", f"about {plan.memory_gib:.1f} GiB without activations"),
        ("disk", _disk(plan.disk, spec)),
    ]
    rows += [(f"size of {name}", f"{total:,} parameters, {part:,} train") for name, total, part in plan.parameters]
    for key, value in rows:
        typer.echo(f"  {key:<18} {value}")
    for note in plan.notes:
        typer.echo(f"  note: {note}")


def _disk(disk: Disk, spec: SearchSpec) -> str:
    keep = spec.keep if isinstance(spec.keep, str) else f"top: {spec.keep.top}"
    each = " for each trial" if spec.budget.trials is None else ""
    return f"about {size(disk.running)}{each} while it runs, {size(disk.over)} when it is over (keep: {keep})"


@app.command("run", epilog="Example: mmtune run demo/openclipart --storage studies --set budget.trials=8")
def run(
    files: Files,
    data: Data = None,
    storage: Annotated[str, typer.Option("--storage", metavar="DIR", help="Where study folders go.")] = STORAGE,
    address: Address = None,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option("--name", help="Another name for the study.")] = None,
) -> None:
    """Runs the study of each search file, one after the other."""
    from mmtune.spec.search_spec import load_spec
    from mmtune.spec.shipped import find_search_file
    from mmtune.study.run import run_studies

    if name is not None and len(files) > 1:
        raise ValueError("--name names one study, but several search files were given")
    specs = [load_spec(find_search_file(file), overrides=overrides or (), name=name) for file in files]
    with closing(
        run_studies(specs, storage=storage, data_dir=data, address=address, say=typer.echo, watching=watching_caches)
    ) as endings:
        for ending in endings:
            _show_end(ending)


@app.command("resume", epilog="Example: mmtune resume studies/demo-openclipart --set budget.trials=40")
def resume(
    study: StudyName,
    address: Address = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Changes budget.*, resources.* or keep from now on; may be repeated.",
            autocompletion=completion.changeable_keys,
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="Where its data lie now, if they were moved.")
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Runs FAILED trials again, but those that diverged or ran out of memory."),
    ] = False,
) -> None:
    """Goes on with an interrupted study, or with a larger budget; needs nothing but its folder."""
    from mmtune.study.run import run_study

    folder = open_study(find_study(study))
    ending = run_study(
        folder,
        address=address,
        overrides=overrides or (),
        data_dir=data,
        retries_failed=retry_failed,
        say=typer.echo,
        watching=watching_caches,
    )
    _show_end(ending)


def _show_end(ending: Ending) -> None:
    folder = ending.folder
    _print_trials(_trials(folder.root), folder.root, title=f"study {folder.name}")
    if ending.error is not None:
        typer.echo(f"mmtune: {ending.error}", err=True)
    if ending.is_complete:
        typer.echo(f"finished. Report: mmtune report {folder.root}")
        return
    typer.echo(f"not finished. Go on with: mmtune resume {folder.root}")
    raise typer.Exit(130 if ending.is_interrupted else 1)


def _trials(root: Path) -> pd.DataFrame | None:
    """The table of a study; None before its first trial."""
    from analysis.studies import load_studies, study_cost

    return load_studies(root) if study_cost(root).states else None


def _print_trials(table: pd.DataFrame | None, root: Path, title: str | None = None) -> None:
    """The best; how many that is where it is not all."""
    from analysis.studies import objectives
    from analysis.tables import study_table

    if table is not None:
        metric, mode = objectives(root)[0]
        header, rows = study_table(table, metric, mode, limit=_SHOWN)
        print_table(header, rows, title=title)
        if len(rows) < len(table):
            typer.echo(f"{len(rows)} of {len(table)} trials shown; all: {root / 'trials.csv'}")


@app.command("status", epilog="Example: mmtune status studies/demo-openclipart")
def status(study: StudyName) -> None:
    """How far a study is, while it runs or after its process died."""
    from analysis.studies import load_studies, study_cost
    from mmtune.filling import read_fillings
    from mmtune.records import is_finished, read_json
    from mmtune.study.lock import lock_owner

    folder = open_study(find_study(study))
    owner, info, cost = lock_owner(folder), read_json(folder.info), study_cost(folder.root)
    total = info["budget"]["trials"]
    states = ", ".join(f"{state.lower()} {count}" for state, count in cost.states.items())
    is_done = owner is None and is_finished(info, cost.states)
    how = f"running ({owner})" if owner else "finished" if is_done else "not running"
    typer.echo(f"{folder.name}: {how}")
    typer.echo(f"  trials       {states or 'none yet'}{'' if total is None else f', of {total}'}")
    table = load_studies(folder.root) if cost.states else None
    typer.echo(f"  epochs       {0 if table is None else int(table['epochs'].to_numpy().sum())}")
    trials = cost.device_hours - cost.cache_hours
    typer.echo(
        f"  spent        {cost.device_hours:.4f} device-hours: trials {trials:.4f}, caches {cost.cache_hours:.4f}"
    )
    typer.echo(f"  idle         {cost.idle_hours:.4f} device-hours, of slots that started, waited and ended")
    for filling in read_fillings(folder.filling) if owner else ():
        typer.echo(f"  filling      {filling}")
    _print_trials(table, folder.root)
    error = info["sessions"][-1].get("error") if info["sessions"] and owner is None else None
    if error:
        typer.echo(f"stopped: {error}")
    if owner is None and not is_done:
        typer.echo(f"go on with: mmtune resume {folder.root}")
