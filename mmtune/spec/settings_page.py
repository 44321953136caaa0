"""docs/settings.md: every key of a search file with its default, its range and what it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmtune.spec.keys import Group, config_groups, family_group, file_groups

SETTINGS_FILE = Path(__file__).parents[2] / "docs" / "settings.md"  # in a checkout

_OPENING = """\
# Settings

Written by `scripts/generate` from the code that checks them: change a field there, not here. The same in a terminal:
`mmtune list keys`, `mmtune list keys FAMILY`; in an editor that knows YAML schemas: the line
`# yaml-language-server: $schema=...` of a search file, with the file that `mmtune schema` prints.

A float may be written as a whole number; write `1.0e-5`, as YAML reads `1e-5` as a word.
"""


def settings_page() -> str:
    """The page as Markdown."""
    from trainables.families import FAMILIES  # imports torch

    return "\n".join([
        _OPENING,
        "## A search file\n",
        *(line for group in file_groups() for line in _table(group)),
        "## Settings of a trial\n",
        "What `fixed` and `space` name, and what the config of one trial has in sections of its own.\n",
        *(line for group in config_groups() for line in _table(group)),
        "## Settings of a family\n",
        *(line for family in FAMILIES for line in _table(family_group(family))),
    ])  # fmt: skip


def _table(group: Group) -> Iterator[str]:
    yield f"{f'### {group.title}{chr(10) * 2}' if group.title else ''}{_cell(group.about)}\n"
    yield "| key | default | range | what it is |"
    yield "|---|---|---|---|"
    for key in group.keys:
        default = "must be given" if not key.default else f"`{key.default}`"
        yield f"| `{key.name}` | {default} | {_cell(key.range)} | {_cell(key.about)} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`").replace("<", "&lt;").replace("*", "\\*")
