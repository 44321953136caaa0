"""After a search: best, pareto, compare, report, figure, simulate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmtune.cli import completion
from mmtune.cli.arguments import Cost, Metric, Studies, StudyName
from mmtune.cli.output import print_table
from mmtune.records import find_study

if TYPE_CHECKING:
    from analysis.compare import Comparison

app = typer.Typer()
_DRAWN = 12  # samples in a picture


@app.command("best", epilog="Example: mmtune best studies/demo-openclipart --export best.yaml")
def best(
    studies: Studies,
    metric: Metric = None,
    export: Annotated[str | None, typer.Option("--export", metavar="FILE", help="Writes its config there.")] = None,
) -> None:
    """The best trial, over all studies given and by family."""
    from analysis.best import best_trial, export_best
    from analysis.studies import choose_objective, load_studies
    from analysis.tables import family_table, study_table

    paths = [find_study(study) for study in studies]
    name, mode = choose_objective(paths, metric)
    table = load_studies(paths)
    top = best_trial(table, name, mode)
    chosen = table.loc[(table["study"] == top["study"]) & (table["trial"] == top["trial"])]
    print_table(*study_table(chosen, name, mode), title="best trial")
    print_table(*family_table(table, name, mode), title="\nbest by family")
    if export is not None:
        export_best(paths, Path(export), metric=name)
        typer.echo(f"\nwritten: {export}. Train it with: mmtune train {export}")


@app.command("pareto", epilog="Example: mmtune pareto studies/demo-openclipart --cost num_parameters --within 0.01")
def pareto(
    studies: Studies,
    metric: Metric = None,
    cost: Annotated[
        str,
        typer.Option(
            "--cost",
            metavar="NAMES",
            help="What it is weighed against; two with a comma between make a front of three axes.",
            autocompletion=completion.costs,
        ),
    ] = "device_seconds",
    under: Annotated[
        float | None, typer.Option("--under", metavar="LIMIT", help="Also the best whose cost is at most that.")
    ] = None,
    within: Annotated[
        float | None, typer.Option("--within", metavar="DELTA", min=0, help="Also the cheapest that near to the best.")
    ] = None,
) -> None:
    """Trials that no other beats in metric and cost, cheapest first, with the front's knee and hypervolume."""
    from analysis.studies import choose_objective, load_studies
    from analysis.tables import choice_notes, front_notes, pareto_table

    paths, costs = [find_study(study) for study in studies], [name.strip() for name in cost.split(",")]
    if len(costs) > 2:
        raise ValueError(f"--cost: {len(costs)} costs given; a front has two or three axes, the metric among them")
    if len(costs) > 1 and (under is not None or within is not None):
        raise ValueError("--under and --within go with a single --cost")
    name, mode = choose_objective(paths, metric)
    table = load_studies(paths)
    print_table(*pareto_table(table, name, mode, cost=costs))
    for line in front_notes(table, name, mode, costs):
        typer.echo(line)
    for line in choice_notes(table, name, mode, costs[0], under=under, within=within):
        typer.echo(line)


@app.command("compare", epilog="Example: mmtune compare studies/demo-openclipart --out compare")
def compare_verb(
    studies: Studies,
    modality: Annotated[
        str, typer.Option("--modality", help="Whether it helps: text, image, numeric, categorical, graph or metadata.")
    ] = "image",
    metric: Metric = None,
    split: Annotated[
        str, typer.Option("--split", help="val, or one that `mmtune test` has written for the best trials.")
    ] = "val",
    budget: Annotated[
        str, typer.Option("--budget", help="equal: each group has what the cheapest took; all: whatever it had.")
    ] = "equal",
    worth: Annotated[float, typer.Option("--worth", min=0, help="The smallest gain that matters.")] = 0.01,
    emap: Annotated[
        bool, typer.Option("--emap", help="Also whether the modalities interact or add up: 40,000 more forwards.")
    ] = False,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Writes the tables and compare.json there.")
    ] = None,
) -> None:
    """Does a modality help: the best with it against the best without, on the same samples at equal budget."""
    from dataclasses import replace

    from analysis.compare import WITH, compare
    from analysis.compared import candidate_table, write_comparison
    from analysis.studies import study_folders
    from analysis.tables import shown
    from analysis.verdict import answer
    from trainables.messages import unknown

    if budget not in ("equal", "all"):
        raise ValueError(f"--budget: {unknown(budget, ('equal', 'all'))}")
    paths = [find_study(study) for study in studies]
    found = compare(
        paths, modality=modality, metric=metric, split=split, is_equal_budget=budget == "equal", worth=worth
    )
    if emap:
        from mmtune.models.emap import interaction
        from mmtune.models.reference import find_model

        row = found.candidates[WITH].row
        folder = study_folders(paths)[str(row.at["study"])].trial(str(row.at["trial"]))
        lost = interaction(find_model(folder), modality=modality, split=split, metric=found.metric)
        found = replace(found, interaction=lost)
    table, said = candidate_table(found), answer(found)
    names = {name: f"val_{name}" if name == found.metric else name for name in table}
    rows = [[shown(known, row[name]) for name, known in names.items()] for _, row in table.iterrows()]
    print_table([*table.columns], rows)
    for line in said:
        typer.echo(line)
    if out is not None:
        write_comparison(Path(out), found, said)
        _draw_won(paths, found, Path(out))
        typer.echo(f"written: {out}")


def _draw_won(paths: list[Path], found: Comparison, folder: Path) -> None:
    """The first samples that only the model with the modality gets right, with picture and text."""
    from analysis.compare import WITH
    from analysis.compared import won_samples
    from analysis.studies import study_folders
    from mmtune.models.pictures import draw_samples
    from mmtune.models.reference import find_model

    won, row = won_samples(found), found.candidates[WITH].row
    if won is None or won.empty:
        return
    ref = find_model(study_folders(paths)[str(row.at["study"])].trial(str(row.at["trial"])), needs_weights=False)
    title = f"{len(won)} samples that only {ref.name} gets right"
    try:
        names = {"said_without": f"without {found.modality}", "said_alone": f"{found.modality} alone"}
        draw_samples(ref, won.head(_DRAWN).rename(columns=names), folder / "samples.png", title=title)
    except ValueError as error:  # the tables stand without the data
        typer.echo(f"note: no picture of the samples: {error}")


@app.command("report", epilog="Example: mmtune report studies/demo-openclipart")
def report(
    studies: Studies,
    metric: Metric = None,
    cost: Cost = "device_seconds",
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Default: the study's report/.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serves report.html on this machine and follows studies that run.")
    ] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of --watch; 0 takes a free one.")] = 0,
) -> None:
    """Writes summary.csv, pareto.csv, best.yaml, figures, report.html; of several datasets one each and one on top."""
    from analysis.across import by_data
    from analysis.report import write_report
    from analysis.several import write_several

    paths = [find_study(study) for study in studies]
    if watch:
        from analysis.page.watch import Watched, watch_report

        watch_report(Watched(paths, out, metric=metric, cost=cost), port, typer.echo)
        return
    if port:
        raise ValueError("--port goes with --watch")
    if metric is None and out is not None and len(by_data(paths)) > 1:
        for path in write_several(paths, Path(out), cost=cost):
            typer.echo(str(path))
        return
    files = write_report(paths, out=out, metric=metric, cost=cost)
    if out is None and (board := paths[0] / "tensorboard").is_dir():
        from mmtune.study.tensorboard import write_pictures

        drawn = [files.pareto_png, files.curves_png, *(sorted(files.figures.glob("*.png")) if files.figures else ())]
        write_pictures(board, {path.stem: path.read_bytes() for path in drawn})
    for path in vars(files).values():
        if path is not None:
            typer.echo(str(path))


@app.command("figure", epilog="Example: mmtune figure fit studies/demo-openclipart --out fit.svg")
def figure(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="`mmtune list figures` says what there is: pareto, curves, fit, ...",
            autocompletion=completion.figures,
        ),
    ],
    studies: Studies,
    metric: Metric = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="A .png or .svg; of a table a .csv too. [NAME.png]")
    ] = None,
) -> None:
    """Draws one figure or table of studies, as a PNG, SVG or CSV file."""
    from analysis.drawings import draw, drawing

    path, paths = Path(out or f"{name}.png"), [find_study(study) for study in studies]
    if drawing(name, path).is_of_model:
        from mmtune.models.figures import draw_of_model

        for line in draw_of_model(name, paths, path, metric=metric):
            typer.echo(line)
    else:
        draw(name, paths, path, metric=metric)
    typer.echo(f"written: {path}")


@app.command("simulate", epilog="Example: mmtune simulate demo-openclipart --schedulers asha,none --workers 4")
def simulate(
    study: StudyName,
    schedulers: Annotated[
        str | None, typer.Option("--schedulers", metavar="NAMES", help="With commas between; default: all.")
    ] = None,
    samplers: Annotated[
        str | None, typer.Option("--samplers", metavar="NAMES", help="Default: the study's own, and random.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Trials at the same time.")] = 1,
    budget: Annotated[
        float | None,
        typer.Option("--budget", metavar="HOURS", help="Device-hours; default: half of what the study took."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Searches of each setting.")] = 8,
) -> None:
    """What other settings would have found when, replayed on a study's own curves."""
    from mmtune.study.simulate import compare, read_study

    spec, recordings = read_study(find_study(study))
    seconds = sum(sum(recording.seconds) for recording in recordings)
    if budget is not None and budget <= 0:
        raise ValueError(f"--budget: {budget:g} is no number of hours above 0")
    header, rows, notes = compare(
        spec,
        recordings,
        schedulers=None if schedulers is None else schedulers.split(","),
        samplers=None if samplers is None else samplers.split(","),
        workers=workers,
        seconds=seconds / 2 if budget is None else 3600 * budget,
        seeds=range(1, seeds + 1),
    )
    print_table(header, rows)
    for note in notes:
        typer.echo(note)
