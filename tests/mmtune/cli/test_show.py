"""``mmtune list`` and ``mmtune schema``."""

from __future__ import annotations

import json
import re

import pytest

from mmtune import records
from trainables.metrics import objective_names


@pytest.mark.parametrize(
    "what, names",
    [
        ("families", ["text", "image", "fusion", "lit_tirg"]),
        ("datasets", ["openclipart"]),
        ("spaces", ["demo/openclipart", "smoke/fusion"]),
        ("samplers", ["parzen", "tpe", "random", "qmc", "nsga2", "gp", "brute_force"]),
        ("schedulers", ["asha", "asha_stopping", "none"]),
        ("metrics", [*objective_names(), *records.COSTS]),
    ],
)
def test_list(mmtune, what, names):
    done = mmtune("list", what)
    rows = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()[1:]]
    assert done.code == 0 and {row[0] for row in rows} >= {*names}
    assert all(row[-1] for row in rows)


def test_a_family_names_the_loss_terms_that_it_adds(mmtune):
    out = mmtune("list", "families").out
    lines = {line.split()[0]: line.rstrip() for line in out.splitlines()}
    assert lines["flava"].endswith("unimodal") and "reconstruction_text" in lines["mvae"]
    assert "kl, kl_private, subsets" in out


@pytest.mark.slow
def test_list_keys(mmtune):
    keys = {key: (default, about) for key, default, about in rows_of(mmtune("list", "keys").out)}
    assert keys["optim.lr"] == ("0.0005", "Peak learning rate, of everything whose multiplier is 1.")
    assert {"budget.trials", "sampler.seed", "space.KEY.at_most", "uda.lam"} < set(keys)
    assert not any(key.startswith("model.") for key in keys)
    keys = {key for key, *_ in rows_of(mmtune("list", "keys", "lit_tirg").out)}
    assert {"optim.lr", "model.tirg_w_r"} < keys and "budget.trials" not in keys
    assert mmtune.refused("list", "keys", "lit_trig").startswith("'lit_trig' is unknown, did you mean 'lit_tirg'?")
    assert "`mmtune list keys fusion`" in mmtune.refused("list", "metrics", "fusion")


def rows_of(text: str) -> list[tuple[str, str, str]]:
    """Key, default and the last column of a table; where cells go on in a second line, its first."""
    rows = [re.split(r"\s{2,}", line.rstrip()) for line in text.splitlines()[1:]]
    return [(row[0], row[1], row[-1]) for row in rows if row[0]]


@pytest.mark.slow
def test_schema(mmtune):
    assert json.loads(mmtune("schema").out)["title"] == "mmtune search file"


def test_list_of_what_there_is_not(mmtune):
    message = mmtune.refused("list", "familes")
    assert message.startswith("'familes' is unknown, did you mean 'families'? Known: families, datasets, spaces, ")
