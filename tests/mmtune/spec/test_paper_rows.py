"""Rows of ``try_first`` that a comment gives to a paper have the settings that the paper gives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from mmtune.spec.search_spec import SearchSpec, load_spec
from mmtune.spec.shipped import shipped_search_files

FILES = shipped_search_files()


@cache
def spec_of(name: str) -> SearchSpec:
    return load_spec(FILES[name])


def rows_of(paper: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """File and settings, fixed ones too, of every row under a comment that names the paper."""
    for name, file in FILES.items():
        rows = file.read_text(encoding="utf-8").partition("\ntry_first:\n")[2]
        comments = re.findall(r"((?:^  #.*\n)*)^  - \{", rows, re.MULTILINE)
        for comment, row in zip(comments, spec_of(name).try_first, strict=True):
            if paper in comment:
                yield name, {**spec_of(name).fixed, **row}


@pytest.mark.slow
def test_ak_et_al_train_all_methods_alike():
    """Lr 5e-5, batch 128, 30 epochs; 256 words and 49 image tokens in a sequence of 307."""
    found = dict(rows_of("Ak et al., Table 1"))
    families = {name.split("/")[0] for name in found}
    assert families == {"text", "image", "vilt", "mmbt", "lit_tirg"}
    for name, row in rows_of("Ak et al., Table 1"):
        assert (row["optim.lr"], row["batch_size"], row["epochs"]) == (5e-5, 128, 30), name
        if name.startswith(("mmbt", "lit_tirg")):
            assert 1 + row.get("model.num_image_tokens", 49) + 1 + row["max_text_len"] - 1 == 307, name
        if name.startswith("mmbt"):
            assert row["model.freeze_text_epochs"] == row["model.freeze_image_epochs"] == 0
        if name.startswith("vilt"):
            assert row["max_text_len"] == 40
        if "image_fit" in row:
            assert row["image_fit"] == ("pad" if name.startswith("vilt") else "crop"), name


@pytest.mark.slow
def test_monter_aldana_et_al_give_two_rates_three_batches_and_whole_pictures():
    found = list(rows_of("Monter-Aldana et al. 2023, Table"))
    assert len(found) > 40
    for name, row in found:
        assert row["optim.lr"] in (1e-4, 5e-5) and row["batch_size"] in (8, 16, 32), name
        if not name.startswith("text/"):
            assert row["image_fit"] == "stretch", name


@pytest.mark.parametrize("name", [f"{family}/hateful_memes" for family in ("text", "clip", "flava", "vilt")])
def test_hateful_memes_begins_with_a_constant_rate(name):
    """AdamW at 2e-5 for 10 epochs, without schedule and warm-up."""
    row = {**spec_of(name).fixed, **spec_of(name).try_first[0]}
    assert (row["optim.lr"], row["epochs"], row["optim.schedule"], row["optim.warmup_ratio"]) == (
        2e-5, 10, "constant", 0.0,
    )  # fmt: skip
