"""Datasets by name. One file reads one on-disk format; each exports the same names.

``SUMMARY`` (a line for ``mmtune list datasets``), ``IS_EMBEDDED``, ``TARGETS`` (name -> task kind),
``sources(data_dir) -> list[Path]`` (what a fingerprint covers) and ``read(data_dir) -> Table``.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from trainables.messages import unknown

DATASETS: dict[str, str] = {
    "amazon": "trainables.data.formats.amazon",
    "debpkg": "trainables.data.formats.debpkg",
    "emoji": "trainables.data.formats.emoji",
    "emoji_entailment": "trainables.data.formats.emoji_entailment",
    "emoji_es": "trainables.data.formats.emoji_es",
    "fashionai": "trainables.data.formats.fashionai",
    "fashionai_pairs": "trainables.data.formats.fashionai_pairs",
    "fashiongen": "trainables.data.formats.fashiongen",
    "food101": "trainables.data.formats.food101",
    "hateful_memes": "trainables.data.formats.hateful_memes",
    "mm_imdb": "trainables.data.formats.mm_imdb",
    "movielens": "trainables.data.formats.movielens",
    "movielens_movies": "trainables.data.formats.movielens_movies",
    "movielens_top": "trainables.data.formats.movielens_top",
    "movielens_top_full": "trainables.data.formats.movielens_top_full",
    "movielens_top_time": "trainables.data.formats.movielens_top_time",
    "moviescope": "trainables.data.formats.moviescope",
    "news": "trainables.data.formats.news",
    "openclipart": "trainables.data.formats.openclipart",
    "snli_ve": "trainables.data.formats.snli_ve",
    "table": "trainables.data.formats.table",
    "vqa_v2": "trainables.data.formats.vqa_v2",
}


def dataset_module(name: str) -> ModuleType:
    """The module that reads dataset ``name``.

    Raises:
        ValueError: no such dataset.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset {unknown(name, sorted(DATASETS))}")
    return import_module(DATASETS[name])
