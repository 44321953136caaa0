"""Before and during a search: check, run, resume, status."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmtune.cli.arguments import Address, Changes, Data, Files, Overrides, Probe, Resumed, Studies, StudyName
from mmtune.cli.output import duration, print_table, size, watching_caches
from mmtune.records import STORAGE, StudyFolder, find_study, open_study

if TYPE_CHECKING:
    import pandas as pd

    from mmtune.slots.cluster import Node
    from mmtune.spec.search_spec import SearchSpec
    from mmtune.spec.sections import Budget
    from mmtune.study.forecast import Forecast
    from mmtune.study.plan import Plan
    from mmtune.study.session import Ending

app = typer.Typer()
_SHOWN = 10  # trials in a table


@app.command("check", epilog="Example: mmtune check demo/openclipart --set budget.trials=4")
def check(
    files: Files,
    data: Data = None,
    address: Address = None,
    overrides: Overrides = None,
    probe: Probe = False,
) -> None:
    """Says what is wrong with search files, or what they would do."""
    from mmtune.slots.cluster import nodes_of, starts_local
    from mmtune.slots.nodes import check_nodes

    problems = []
    with nodes_of(address) as nodes:
        if not starts_local(address):
            check_nodes(data_dir=data)
        for file in files:
            try:
                _check(file, nodes, data=data, overrides=overrides or (), probes=probe)
            except ValueError as error:
                problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))


def _check(file: str, nodes: Sequence[Node], *, data: str | None, overrides: Sequence[str], probes: bool) -> None:
    from mmtune.spec.search_spec import load_spec
    from mmtune.spec.shipped import find_search_file
    from mmtune.study.plan import make_plan

    spec = load_spec(find_search_file(file), overrides=overrides)
    with watching_caches():
        plan = make_plan(spec, nodes, data_dir=data, probes=probes)
    typer.echo(f"{spec.source}: fine")
    workers = f"{spec.resources.workers} worker{'s' * (spec.resources.workers > 1)}"
    rows = [
        ("trials", _trials_of(plan)),
        ("at the same time", f"{plan.slots}, of {workers} each; {plan.workers_fit} workers can be placed"),
        ("searched", ", ".join(spec.space.keys) or "nothing"),
        *_confirming(spec),
        ("objective", ", ".join(f"{item.metric} ({item.mode})" for item in plan.spec.objectives)),
        ("sampler, scheduler", f"{spec.sampler.name}, {spec.scheduler.name}"),
        ("time", _time(plan.forecast, spec.budget)),
        ("memory of a trial", _memory(plan.forecast)),
        ("disk", _disk(plan)),
    ]
    rows += [(f"size of {name}", f"{total:,} parameters, {part:,} train") for name, total, part in plan.parameters]
    for key, value in rows:
        typer.echo(f"  {key:<18} {value}")
    for note in plan.notes:
        typer.echo(f"  note: {note}")


def _trials_of(plan: Plan) -> str:
    """How many trials and epochs there will be; where the budget is of epochs or hours, how many that buys."""
    about = plan.forecast
    if about.trials is None:
        return "as many as the time buys; --probe says how many"
    if plan.trials is not None and round(about.trials) >= plan.trials:
        return f"{plan.trials}, about {about.epochs:.0f} epochs, {plan.epochs} at most"
    return f"about {about.trials:.0f} with {about.epochs:.0f} epochs: what the budget buys"


def _time(forecast: Forecast, budget: Budget) -> str:
    if forecast.device_hours is None or forecast.wall_hours is None:
        most = {"device-hours": budget.device_hours, "hours from start to end": budget.wall_hours}
        limits = " and ".join(f"{limit:g} {name}" for name, limit in most.items() if limit is not None)
        return f"at most {limits}; --probe measures it" if limits else "not known; --probe measures it"
    return f"about {duration(3600 * forecast.wall_hours)}, {forecast.device_hours:.4f} device-hours"


def _memory(forecast: Forecast) -> str:
    which = "the dearest, as probed" if forecast.is_probed else "the dearest, worked out with its activations"
    if forecast.without_activations is not None:
        which += f", without those of {'; '.join(forecast.without_activations)}"
    return f"about {forecast.peak_memory_gib:.2f} GiB beside its empty worker ({which})"


def _disk(plan: Plan) -> str:
    keep = plan.spec.keep if isinstance(plan.spec.keep, str) else f"top: {plan.spec.keep.top}"
    each = " for each trial" if plan.forecast.trials is None else ""
    return f"about {size(plan.disk.running)}{each} while it runs, {size(plan.disk.over)} when it is over (keep: {keep})"


def _confirming(spec: SearchSpec) -> list[tuple[str, str]]:
    """What of a plan is about finalists."""
    if spec.finalists:
        return [("finalists", f"{len(spec.finalists)}, each whole and tested once on each seed")]
    if spec.confirm is None:
        return []
    best = "the best" if spec.confirm.top == 1 else f"the {spec.confirm.top} best"
    of = "" if spec.family else " of each family"
    return [("then", f"{best}{of} whole on {spec.confirm.seeds} fresh seeds, each tested once")]


@app.command("run", epilog="Example: mmtune run demo/openclipart --storage studies --set budget.trials=8")
def run(
    files: Files,
    data: Data = None,
    storage: Annotated[
        str,
        typer.Option(
            "--storage", metavar="DIR|URL", help="Where study folders go: a folder; s3://, gs://, az://, hdfs://."
        ),
    ] = STORAGE,
    address: Address = None,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option("--name", help="Another name for the study.")] = None,
    confirm: Annotated[
        int | None,
        typer.Option("--confirm", metavar="SEEDS", help="Then the best (of each family) again on fresh seeds."),
    ] = None,
    probe: Probe = False,
    resume: Annotated[
        str,
        typer.Option("--resume", metavar="auto|never", help="auto goes on with a study of that name that is there."),
    ] = "never",
) -> None:
    """Runs the study of each search file, one after the other."""
    from mmtune.slots.cluster import importing_ahead
    from mmtune.spec.search_spec import load_spec
    from mmtune.spec.shipped import find_search_file
    from mmtune.study.remote import start_studies

    if name is not None and len(files) > 1:
        raise ValueError("--name names one study, but several search files were given")
    if resume not in ("auto", "never"):
        raise ValueError(f"--resume {resume}: auto or never")
    changes = [*(overrides or ()), *([] if confirm is None else [f"confirm.seeds={confirm}"])]
    with ExitStack() as stack:
        stack.enter_context(importing_ahead(address))
        specs = [load_spec(find_search_file(file), overrides=changes, name=name) for file in files]
        endings = start_studies(
            specs,
            storage=storage,
            data_dir=data,
            address=address,
            resumes=resume == "auto",
            probes=probe,
            say=typer.echo,
            watching=watching_caches,
        )  # fmt: skip
        stack.enter_context(closing(endings))
        for ending in endings:
            _show_end(ending)
            _follow(ending, address)


@app.command("resume", epilog="Example: mmtune resume studies/demo-openclipart --set budget.trials=40")
def resume(
    study: Resumed,
    address: Address = None,
    overrides: Changes = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="Where its data lie now, if they were moved.")
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Runs FAILED trials again, but those that diverged or ran out of memory."),
    ] = False,
) -> None:
    """Goes on with an interrupted study, or with a larger budget; needs nothing but its folder."""
    from mmtune.study.remote import go_on

    ending = go_on(
        study,
        address=address,
        overrides=overrides or (),
        data_dir=data,
        retries_failed=retry_failed,
        say=typer.echo,
        watching=watching_caches,
    )
    _show_end(ending)
    _follow(ending, address)


@app.command("confirm", epilog="Example: mmtune confirm demo-openclipart --families")
def confirm(
    studies: Studies,
    top: Annotated[
        int | None, typer.Option("--top", min=1, help="Finalists; default: 3, or 1 of each family.", show_default=False)
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=2, max=1000, help="Fresh seeds that each is trained on.")] = 5,
    families: Annotated[bool, typer.Option("--families", help="The best of each family.")] = False,
    data: Data = None,
    storage: Annotated[
        str | None, typer.Option("--storage", metavar="DIR|URL", help="Default: beside the first study.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Default: the first study's with -confirm.")] = None,
    address: Address = None,
    overrides: Changes = None,
) -> None:
    """Trains the best trials again on fresh seeds, tests each once, and says which is best how surely."""
    from mmtune.models.confirm import confirming_spec, storage_of
    from mmtune.study.remote import start_studies

    paths = [find_study(study) for study in studies]
    spec, data_dir = confirming_spec(
        paths,
        top=top or (1 if families else 3),
        seeds=seeds,
        by_family=families,
        name=name,
        data_dir=data,
        overrides=overrides or (),
    )
    where = storage_of(paths[0]) if storage is None else storage
    with closing(
        start_studies(
            [spec], storage=where, data_dir=data_dir, address=address, say=typer.echo, watching=watching_caches
        )
    ) as endings:
        _show_end(next(endings))


def _follow(ending: Ending, address: str | None) -> None:
    """What the file of a finished study asks for after the search."""
    from mmtune.models.confirm import run_confirm

    confirmed = run_confirm(ending.folder, address=address, say=typer.echo, watching=watching_caches)
    if confirmed is not None:
        _show_end(confirmed)


def _show_end(ending: Ending) -> None:
    from mmtune.storage.store import resumed_by

    folder = ending.folder
    where = resumed_by(folder.root)
    if folder.spec.is_file():  # its storage may be gone
        _print_trials(_trials(folder.root), folder.root, title=f"study {folder.name}")
    if ending.error is not None:
        typer.echo(f"mmtune: {ending.error}", err=True)
    if ending.is_complete:
        _write_confirm(folder)
        typer.echo(f"finished. Report: mmtune report {where}")
        return
    typer.echo(f"not finished. Go on with: mmtune resume {where}")
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


def _write_confirm(folder: StudyFolder) -> None:
    """The table of finalists, where the study repeats some, and confirm.csv."""
    from analysis.confirm import FILE, confirm_note, finalist_table, finalists_of, write_confirm
    from analysis.studies import load_studies, objectives

    table = load_studies(folder.root)
    if finalists_of(table).empty:
        return
    metric, mode = objectives(folder.root)[0]
    confirmed = write_confirm(table, metric, mode, folder.report)
    print_table(*finalist_table(confirmed, metric), title="\nfinalists over their seeds")
    typer.echo(confirm_note(confirmed))
    typer.echo(f"written: {folder.report / FILE}")


@app.command("status", epilog="Example: mmtune status studies/demo-openclipart")
def status(study: StudyName) -> None:
    """How far a study is, while it runs or after its process died."""
    from analysis.reading import damaged_lines
    from analysis.studies import load_studies, study_cost
    from mmtune.filling import read_fillings
    from mmtune.info import read_info
    from mmtune.storage.lease import lease_owner
    from mmtune.storage.store import Store, remote_of, resumed_by
    from mmtune.study.budget import is_finished
    from mmtune.study.lock import lock_owner

    folder = open_study(find_study(study))
    url = remote_of(folder.root)
    owner, info, cost = lock_owner(folder), read_info(folder.info), study_cost(folder.root)
    owner = owner or (None if url is None else lease_owner(Store(url)))
    limits = {name: f", of {limit:g}" for name, limit in info["budget"].items() if limit is not None}
    states = ", ".join(f"{state.lower()} {count}" for state, count in cost.states.items())
    is_done = owner is None and is_finished(info, cost)
    how = f"running ({owner})" if owner else "finished" if is_done else "not running"
    typer.echo(f"{folder.name}: {how}")
    typer.echo(f"  trials       {states or 'none yet'}{limits.get('trials', '')}")
    table = load_studies(folder.root) if cost.states else None
    typer.echo(f"  epochs       {cost.epochs}{limits.get('epochs', '')}")
    trials = cost.device_hours - cost.cache_hours
    typer.echo(
        f"  spent        {cost.device_hours:.4f} device-hours{limits.get('device_hours', '')}: trials {trials:.4f}, "
        f"caches {cost.cache_hours:.4f}"
    )
    typer.echo(f"  idle         {cost.idle_hours:.4f} device-hours, of slots that started, waited and ended")
    for filling in read_fillings(folder.filling) if owner else ():
        typer.echo(f"  filling      {filling}")
    for path in (folder.reports, folder.trials):
        if count := damaged_lines(path):
            typer.echo(f"  damaged      {path.name}: {count} lines left out; resume fills them in again")
    _print_trials(table, folder.root)
    error = info["sessions"][-1].get("error") if info["sessions"] and owner is None else None
    if error:
        typer.echo(f"stopped: {error}")
    if owner is None and not is_done:
        typer.echo(f"go on with: mmtune resume {resumed_by(folder.root)}")
