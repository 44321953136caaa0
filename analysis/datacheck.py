"""What ``mmtune data check`` found, as tables for a terminal, and a picture of samples. Reads check.json as it is."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.figures import INK, png

Table = tuple[str, list[str], list[list[str]]]  # title, header, rows

_SPLITS = ("train", "val", "test")
_MOST_CLASSES = 24  # of which all are shown
_FREQUENT, _RARE = 12, 6  # else so many of both ends
_MOST_LINES = 20  # of a list of rows
_NAME, _CELL = 1.5, 2.6  # inches: the class, a sample


def check_tables(check: Mapping[str, Any]) -> list[Table]:
    """A table for each part that the dataset has.

    Args:
        check: a check.json.
    """
    tables = [_rows(check), _targets(check)]
    for name, target in check["targets"].items():
        if target["classes"]:
            tables.append(_classes(name, target))
        if target["moments"]:
            header = ["", "mean", "deviation", "min", "max"]
            rows = [[split, *map(_number, values.values())] for split, values in target["moments"].items()]
            tables.append((f"{name}: values", header, rows))
    tables += [_lengths(check["text"])] if check["text"] else []
    tables += _images(check["image"]) if check["image"] else []
    tables += [_copies(check["copies"])] if check["copies"] else []
    names = list(check["targets"])
    if check["numeric"]:
        header = ["numeric", "missing", "constant", *(f"correlation with {name}" for name in names)]
        rows = [
            [name, _share(column["missing_share"]), "yes" if column["is_constant"] else "no"]
            + [_number(column["correlation"][target]) for target in names]
            for name, column in check["numeric"].items()
        ]
        tables.append(("numbers", header, rows))
    if check["categorical"]:
        tables.append(_categories(check["categorical"], names))
    if check["graphs"]:
        header = ["graph", "nodes", "linked", "edges", "unseen in val", "unseen in test"]
        rows = [
            [name, *(f"{graph[key]:,}" for key in ("nodes", "linked_nodes", "edges"))]
            + [_share(graph["unseen_share"][split]) for split in ("val", "test")]
            for name, graph in check["graphs"].items()
        ]
        tables.append(("graphs", header, rows))
    return tables


def _rows(check: Mapping[str, Any]) -> Table:
    lines: dict[str, Mapping[str, int] | None] = {"rows": check["rows"]}
    for name, target in check["targets"].items():
        lines[f"with a label for {name}"] = target["labelled"]
        lines[f"with no class of {name}"] = target["empty"]
    lines["empty text"] = check["text"] and check["text"]["empty"]
    lines["unreadable image"] = check["image"] and check["image"]["unreadable"]
    for name, graph in check["graphs"].items():
        lines[f"no neighbour in graph {name}"] = graph["isolated"]
    cells = [[name, *(f"{line[split]:,}" for split in _SPLITS)] for name, line in lines.items() if line]
    return "rows", ["", *_SPLITS], cells


def _targets(check: Mapping[str, Any]) -> Table:
    header = ["target", "kind", "classes", "fewest", "most", "classes a row", "constant's", *_SPLITS]
    header += ["text names class", "contradicting rows"]
    rows = []
    for name, target in check["targets"].items():
        least, most = ("" if one is None else f"{one['name']} {one['rows']:,}" for one in _ends(target))
        cells = [name, target["kind"], str(len(target["classes"]) or ""), least, most]
        cells += [_number((target["cardinality"] or {}).get("train")), target["baseline_metric"]]
        cells += [_number(target["baseline"][split]) for split in _SPLITS]
        rows.append([*cells, _share(target["named_share"]), str(target["contradicting_rows"])])
    return "targets", header, rows


def _ends(target: Mapping[str, Any]) -> tuple[Any, Any]:
    return target["smallest"], target["largest"]


def _classes(name: str, target: Mapping[str, Any]) -> Table:
    ranked = sorted(target["classes"].items(), key=lambda item: -item[1]["train"])
    rows = [[label, *(f"{counts[split]:,}" for split in _SPLITS)] for label, counts in ranked]
    if len(rows) > _MOST_CLASSES:
        left = len(rows) - _FREQUENT - _RARE
        rows = [*rows[:_FREQUENT], [f"... {left} more", "", "", ""], *rows[-_RARE:]]
    return f"{name}: rows by class", ["", *_SPLITS], rows


def _lengths(text: Mapping[str, Any]) -> Table:
    lines = {"characters": (text["characters"], "")}
    for name, tokens in text["tokens"].items():
        cut = f"{tokens['cut_share']:.1%} at {tokens['max_text_len']}"
        if tokens["limit"] is not None:
            cut += f", {tokens['over_limit_share']:.1%} at its own {tokens['limit']}"
        lines[f"tokens of {name}"] = (tokens["percentiles"], cut)
    rows = [[name, *map(_number, values.values()), cut] for name, (values, cut) in lines.items()]
    return "texts", ["percentile", *text["characters"], "cut"], rows


def _images(image: Mapping[str, Any]) -> list[Table]:
    rows = [[name, *map(_number, image[name].values())] for name in ("width", "height", "aspect")]
    counts = [", ".join(f"{name} {num:,}" for name, num in image[key].items()) for key in ("kinds", "modes")]
    files = [[f"{image['pictures']:,}", *counts, f"{image['plain']:,}"]]
    return [
        ("image files", ["different", "formats", "modes", "one colour"], files),
        ("images", ["percentile", *image["width"]], rows),
    ]


def _copies(copies: Mapping[str, Any]) -> Table:
    pairs = (("test", "train"), ("val", "train"), ("test", "val"), *((split, split) for split in _SPLITS))
    header = ["rows with a copy", *(f"{a} in {b}" if a != b else f"within {a}" for a, b in pairs)]
    rows = []
    for name, found in copies.items():
        for kind in ("exact", "near"):
            if found[kind] is not None:
                line = f"same {name}" if kind == "exact" else f"only nearly the same {name}"
                rows.append([line, *(f"{found[kind][a][b]:,}" for a, b in pairs)])
    return "copies", header, rows


def _categories(columns: Mapping[str, Any], targets: Sequence[str]) -> Table:
    header = ["categorical", "values", "in train", "missing", "unseen in val", "unseen in test"]
    header += [f"alone on {name}" for name in targets]
    rows = []
    for name, column in columns.items():
        cells = [name, f"{column['values']:,}", f"{column['train_values']:,}", _share(column["missing_share"])]
        cells += [_share(column["unseen_share"][split]) for split in ("val", "test")]
        for target in targets:
            alone = column["alone"][target]
            cells.append("" if alone is None else f"{alone['score']:.3f} (constant {alone['baseline']:.3f})")
        rows.append(cells)
    return "categories", header, rows


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


# --- what is wrong ----------------------------------------------------------------------------------
def check_problems(check: Mapping[str, Any]) -> list[str]:
    """Lines: the rows that the reader left out or repaired and the broken images, the first of each.

    Args:
        check: a check.json.
    """
    images = [] if check["image"] is None else check["image"]["bad_images"]
    broken = [f"{one['row']['id']} ({one['row']['place']}): {one['problem']}" for one in images]
    lines = []
    for what, found in (
        ("rows left out or repaired by the reader", check["problems"]),
        ("images missing or unreadable", broken),
    ):
        if found:
            lines += ["", f"{what}: {len(found):,}", *(f"  {line}" for line in found[:_MOST_LINES])]
        if len(found) > _MOST_LINES:
            lines.append(f"  and {len(found) - _MOST_LINES:,} more: all are in check.json (--out)")
    return lines


def check_verdict(check: Mapping[str, Any]) -> list[str]:
    """Lines: how many rows were looked at, and what a person should look at; what ``--strict`` refuses has an !.

    Args:
        check: a check.json.
    """
    rows, findings = sum(check["rows"].values()), check["findings"]
    looked = f"{rows:,} rows" if rows == check["num_read"] else f"{rows:,} of {check['num_read']:,} rows"
    lines = [f"{check['dataset']}, {looked}: {len(findings) or 'nothing'} to look at"]
    for finding in findings:
        lines.append(f"  {'!' if finding['is_strict'] else '-'} {finding['text']}")
        lines += [f"      {example}" for example in finding["examples"]]
    return lines


# --- samples ----------------------------------------------------------------------------------------
def samples_picture(groups: Mapping[str, Sequence[Any]], title: str) -> bytes:
    """A PNG with a row a class: its name, and samples with image, text and label.

    Args:
        groups: class -> samples with ``id``, ``label``, ``text`` and ``image``, see
            :class:`trainables.data.check.samples.Sample`.
        title: of the picture.
    """
    from matplotlib.figure import Figure

    columns = max((len(samples) for samples in groups.values()), default=1)
    has_images = any(sample.image is not None for samples in groups.values() for sample in samples)
    row_height = 1.0 if has_images else 0.7
    width, height = _NAME + columns * _CELL + 0.1, len(groups) * row_height + 0.5
    figure = Figure(figsize=(width, height), dpi=110)

    def write(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / width, 1 - y / height, text, va="top", parse_math=False, **style)

    write(0.1, 0.12, title, fontsize=12)
    for row, (group, samples) in enumerate(groups.items()):
        top = row * row_height + 0.5
        write(0.1, top + 0.05, _short(group, 17, 3), fontsize=8, color=INK, weight="bold")
        for column, sample in enumerate(samples):
            left = _NAME + column * _CELL
            if has_images and sample.image is None:
                write(left + 0.1, top + 0.35, "no image", fontsize=7, color="0.5")
            if sample.image is not None:
                axes = figure.add_axes((left / width, 1 - (top + 0.92) / height, 0.88 / width, 0.88 / height))
                axes.imshow(sample.image, interpolation="nearest")
                axes.axis("off")
            left += 0.95 * has_images
            room = 25 if has_images else 38
            label = "" if sample.label == group else _short(sample.label, room, 2)
            text = (
                "" if sample.text is None else _short(sample.text, room, (5 if has_images else 3) - label.count("\n"))
            )
            write(left, top + 0.05, text, fontsize=7)
            write(left, top + row_height - 0.22 - 0.11 * label.count("\n"), label, fontsize=6.5, color="#0072B2")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # drawn as a box
        return png(figure)


def _short(text: str, width: int, lines: int) -> str:
    """``text`` in so many lines at most."""
    return "\n".join(textwrap.wrap(" ".join(text.split()), width, max_lines=lines, placeholder=" ..."))
