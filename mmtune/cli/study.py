"""Before and during a search: check, run, resume, status."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmtune.cli import completion
from mmtune.cli.arguments import STORAGE, Address, Data, Files, Overrides, StudyName, study_path
from mmtune.cli.output import print_table, watching_caches

if TYPE_CHECKING:
    import pandas as pd

    from mmtune.records import StudyFolder
    from mmtune.slots.cluster import Node

app = typer.Typer()
_SHOWN = 10  # trials in a table


@app.command("check", epilog="Example: mmtune check demo/openclipart --set budget.trials=4")
def check(files: Files, data: Data = None, address: Address = None, overrides: Overrides = None) -> None:
    """Says what is wrong with search files, or what they would do."""
    nodes, problems = _nodes(address), []
    for file in files:
        try:
            _check(file, nodes, data=data, overrides=overrides or ())
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))


def _nodes(address: str | None) -> list[Node]:
    from mmtune.slots.cluster import cluster_nodes, local_nodes, ray_session

    if address is None:
        return local_nodes()
    with ray_session(address):
        return cluster_nodes()


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
        ("disk", f"about {plan.disk_gib:.2f} GiB of checkpoints"),
    ]
    rows += [(f"size of {name}", f"{total:,} parameters, {part:,} train") for name, total, part in plan.parameters]
    for key, value in rows:
        typer.echo(f"  {key:<18} {value}")
    for note in plan.notes:
        typer.echo(f"  note: {note}")


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
    from mmtune.slots.cluster import cluster_nodes, local_nodes, ray_session
    from mmtune.spec.search_spec import load_spec
    from mmtune.spec.shipped import find_search_file
    from mmtune.study.create import create_study, new_folder
    from mmtune.study.plan import make_plan

    if name is not None and len(files) > 1:
        raise ValueError("--name names one study, but several search files were given")
    specs = [load_spec(find_search_file(file), overrides=overrides or (), name=name) for file in files]
    for spec in specs:
        new_folder(spec, storage)
    twice = sorted({spec.study for spec in specs if [other.study for other in specs].count(spec.study) > 1})
    if twice:
        raise ValueError(f"two search files name the same study: {', '.join(twice)}")
    with nullcontext() if address is None else ray_session(address):
        nodes = local_nodes() if address is None else cluster_nodes()
        with watching_caches():
            plans = [make_plan(spec, nodes, data_dir=data) for spec in specs]  # nothing is created before all can run
        for note in dict.fromkeys(note for plan in plans for note in plan.notes):
            typer.echo(f"note: {note}")
        for plan in plans:
            _run(create_study(plan.spec, storage=storage, data_dir=data), address)


@app.command("resume", epilog="Example: mmtune resume studies/demo-openclipart --set budget.trials=40")
def resume(
    study: StudyName,
    address: Address = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Changes budget.* or resources.* from now on; may be repeated.",
            autocompletion=completion.changeable_keys,
        ),
    ] = None,
) -> None:
    """Goes on with an interrupted study, or with a larger budget; needs nothing but its folder."""
    from mmtune.records import open_study

    _run(open_study(study_path(study)), address, overrides or ())


def _run(folder: StudyFolder, address: str | None, overrides: Sequence[str] = ()) -> None:
    from mmtune.study.run import run_study

    ending = run_study(folder, address=address, overrides=overrides, say=typer.echo, watching=watching_caches)
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
    from mmtune.records import is_finished, open_study, read_json
    from mmtune.study.lock import lock_owner

    folder = open_study(study_path(study))
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
