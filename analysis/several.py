"""The report of studies of different data: each has its own, and a page on top sets families side by side."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pandas as pd

from analysis.across import across, across_table, by_data
from analysis.characteristics import model_table
from analysis.figures import drawn, table_figure
from analysis.report import write_report
from analysis.studies import Paths, choose_objective, load_studies, study_folders
from analysis.tables import Table, shown_table
from analysis.tidy import csv_text
from trainables.files import write_atomic

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,"><title>{{ title }}</title>
<style>{{ css | safe }}</style></head><body><main><h1>{{ title }}</h1>
{% for caption, content in tables %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ caption }}"><table><caption>{{ caption }}</caption>
<thead><tr>{% for name in content[0] %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in content[1] %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>{% endfor %}
<h2>Reports</h2><ul>{% for name, of in reports %}<li><a href="{{ name }}/report.html">{{ of }}</a></li>{% endfor %}</ul>
<p class="how">Values of different data do not compare: read down a column. Numbers: tasks.csv, models.csv.</p>
</main></body></html>
"""


def write_several(paths: Paths, out: Path, *, cost: str = "device_seconds") -> list[Path]:
    """Writes a report for the studies of each dataset and objective into a folder of ``out``, and what joins them.

    That is report.html, tasks.csv, tasks.png, tasks.svg (:func:`analysis.across.across`) and models.csv, the best
    models of all; docs/report.md has the columns.

    Args:
        paths: studies of different data.
        out: the folder.
        cost: as of :func:`analysis.report.write_report`.

    Returns:
        The files in ``out`` itself, and the pages below it.

    Raises:
        ValueError: not a study, or one in which nothing has ended well.
    """
    rows, reports, models, pages = across(paths), [], [], []
    for data, group in by_data(paths).items():
        metric, mode = choose_objective(group)
        name = group[0].name if len(group) == 1 else re.sub(r"[^\w.-]+", "-", data)
        pages.append(write_report(group, out / name, cost=cost).html)
        reports.append((name, f"{data}: {', '.join(study_folders(group))}"))
        own = model_table(group, load_studies(group), metric, mode)
        models.append(own.rename(columns={metric: "value"}).assign(metric=metric))
    joined = pd.concat(models, ignore_index=True)
    title = ", ".join(study_folders(paths))
    table = across_table(rows)
    contents = {
        "tasks.csv": csv_text(rows),
        "models.csv": csv_text(joined),
        "tasks.png": drawn(table_figure(table), "png"),
        "tasks.svg": drawn(table_figure(table), "svg"),
        "report.html": _page(title, table, joined, reports),
    }
    for name, content in contents.items():
        write_atomic(out / name, content)
    return [*(out / name for name in contents), *pages]


def _page(title: str, table: Table, models: pd.DataFrame, reports: list[tuple[str, str]]) -> str:
    from jinja2 import Environment

    tables = [
        ("Families across data; * is the best of a column", table),
        ("What the best models are", shown_table(models)),
    ]
    css = files("analysis.page").joinpath("report.css").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    return page.render(title=title, tables=tables, reports=reports, css=css)
