"""Search files as files: the ones that come with mmtune, what tells one from a config, and the copy a study keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mmtune.spec.document import Document
from mmtune.spec.sections import SearchFile
from mmtune.spec.yamltree import Tree
from trainables.config import TrialConfig
from trainables.messages import did_you_mean

SEARCH_KEYS = tuple(SearchFile.model_fields)
_CONFIG_KEYS = TrialConfig.model_fields.keys()
_OF_SEARCHES, _OF_CONFIGS = {*SEARCH_KEYS} - _CONFIG_KEYS, _CONFIG_KEYS - {*SEARCH_KEYS}


def shipped_search_files() -> dict[str, Path]:
    """The search files that come with mmtune, by name: ``{"mmbv/moviescope": Path(...), ...}``."""
    root = (Path(__file__).parents[1] / "search_spaces").resolve()  # in a checkout a link to the folder at the top
    files = sorted(root.rglob("*.yaml"))
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in files}


def find_search_file(name_or_path: str | Path) -> Path:
    """The search file at a path, or the shipped one of that name.

    Raises:
        ValueError: there is neither.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = shipped_search_files()
    name = path.as_posix().removesuffix(".yaml")
    if name in shipped:
        return shipped[name]
    same_end = [known for known in shipped if known.split("/")[-1] == name]
    hint = f", did you mean '{same_end[0]}'?" if same_end else did_you_mean(name, shipped) or "."
    raise ValueError(
        f"'{name_or_path}' is neither a file nor a search file that comes with mmtune{hint} "
        "List them with: mmtune list spaces"
    )


def is_search_file(data: Mapping[str, Any]) -> bool:
    """Whether the keys are those of a search file, none a config's."""
    return not _OF_SEARCHES.isdisjoint(data) and _OF_CONFIGS.isdisjoint(data)


def is_config(data: Mapping[str, Any]) -> bool:
    """Whether the keys are those of a TrialConfig, none a search file's."""
    return not _OF_CONFIGS.isdisjoint(data) and _OF_SEARCHES.isdisjoint(data)


def final_text(document: Document, study: str) -> str:
    """The search file as it runs under the name ``study``, overrides applied.

    The original to the byte if nothing was changed, but for a line ``study:`` where it had none.
    """
    if not document.is_changed and document.data.get("study") is not None:
        return document.text
    header = re.match(r"\ufeff?(?:[ \t]*(?:#[^\r\n]*)?(?:\r\n|\n|\Z))*", document.text)
    opening = header.group() if header else ""
    body = {"study": study, **{key: value for key, value in document.data.items() if key != "study"}}
    if not document.is_changed:
        text = f"{opening}study: {study}\n{document.text[len(opening) :]}"
        tree = Tree(text)
        if not tree.problems and tree.data == body:
            return text
    options: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "width": 120, "allow_unicode": True}
    space = body.get("space") or {}
    lines = {k: [_OnOneLine(d) for d in v] if isinstance(v, list) else _OnOneLine(v) for k, v in space.items()}
    return opening + yaml.dump({**body, **({"space": lines} if lines else {})}, Dumper=_Dumper, **options)


class _OnOneLine(dict):
    pass


class _Dumper(yaml.SafeDumper):
    """A line for each domain, as people write them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    _OnOneLine, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)
)
