"""A TrialConfig from a file: what ``best`` exports, and what each trial keeps as its config.yaml."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mmtune.spec.configkeys import ConfigKeys, config_problems, known_names
from mmtune.spec.document import Document, read_source
from mmtune.spec.searchfile import is_search_file
from mmtune.spec.validation import with_floats
from trainables.config import TrialConfig
from trainables.messages import describe


def load_config(path: str | Path, *, data_dir: str | Path | None = None) -> TrialConfig:
    """The TrialConfig in a file.

    Args:
        path: nested YAML, as ``TrialConfig.to_dict`` gives it; what is left out takes its default.
        data_dir: where the dataset lies, instead of the file's ``data_dir``.

    Raises:
        SpecError: with everything that is wrong, in the order of the file.
        ValueError: a search file in place of a config.
    """
    source, text, _ = read_source(Path(path))
    document = Document(source, text, expected="a config is a mapping of family, dataset, optim, model, ...")
    if is_search_file(document.data):
        raise ValueError(f"{source} is a search file, not the config of one trial; run it: mmtune run {source}")
    if data_dir is not None:
        document.put(("data_dir",), str(data_dir), f"--data {data_dir}")
    config = _config(document) if document.is_readable else None
    if config is None or document.problems:
        raise document.error()
    return config


def _config(document: Document) -> TrialConfig | None:
    """The config, or None with everything wrong noted."""
    families, datasets = known_names()
    family = document.name("family", families)
    document.name("dataset", datasets)
    keys = ConfigKeys([family] if family in families else [], families)
    names = {name for fields in keys.fields.values() for name in fields}
    sections = {"model", *(name.rpartition(".")[0] for name in names)}
    params = _flat(document, sections, document.data, ())
    for path, value in params.items():
        key = ".".join(path)
        problem = keys.key_problem(key, keys.families)
        if problem is None and isinstance(value, dict | list):
            problem = f"is {describe(value)}; a value is expected"
        if problem is None:
            problem = keys.value_problem(key, value, keys.families, document.odd_words(path))
        if problem is not None and not document.has_problem(path):
            document.bad(path, problem)
    if document.problems:
        return None
    fields = keys.fields[family]
    flat = with_floats({".".join(path): value for path, value in params.items()}, fields)
    for key, message in config_problems(flat, fields):  # what does not fit together, or is missing
        document.bad(tuple(key.split(".")), message, key=key or "file")
    return None if document.problems else TrialConfig.from_params(flat)


def _flat(
    document: Document, sections: Collection[str], data: Mapping[str, Any], above: tuple[str, ...]
) -> dict[tuple[str, ...], Any]:
    """The values of nested sections by path; an empty section is none."""
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in data.items():
        path = (*above, key)
        if "." in key:
            head, _, leaf = key.rpartition(".")
            document.bad(path, f"is a flat key; a config is nested, write {head}: {{{leaf}: ...}}")
        elif ".".join(path) not in sections:
            flat[path] = value
        elif isinstance(value, dict):
            flat |= _flat(document, sections, value, path)
        elif value is not None:
            document.bad(path, f"is {describe(value)}; a mapping is expected")
    return flat
