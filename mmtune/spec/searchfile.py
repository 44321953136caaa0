"""Search files as files: what tells one from a config, and the copy that a study keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from mmtune.spec.document import Document
from mmtune.spec.sections import SearchFile
from trainables.config import TrialConfig
from trainables.yamltree import Tree

SEARCH_KEYS = tuple(SearchFile.model_fields)
_CONFIG_KEYS = TrialConfig.model_fields.keys()
_OF_SEARCHES, OF_CONFIGS = {*SEARCH_KEYS} - _CONFIG_KEYS, _CONFIG_KEYS - {*SEARCH_KEYS}


def is_search_file(data: Mapping[str, Any]) -> bool:
    """Whether the keys are those of a search file, none a config's."""
    return not _OF_SEARCHES.isdisjoint(data) and OF_CONFIGS.isdisjoint(data)


def is_config(data: Mapping[str, Any]) -> bool:
    """Whether the keys are those of a TrialConfig, none a search file's."""
    return not OF_CONFIGS.isdisjoint(data) and _OF_SEARCHES.isdisjoint(data)


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
