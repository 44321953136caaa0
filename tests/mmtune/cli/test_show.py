"""``mmtune list``."""

from __future__ import annotations

import re

import pytest

from mmtune import records


@pytest.mark.parametrize(
    "what, names",
    [
        ("families", ["text", "image", "fusion", "lit_tirg"]),
        ("datasets", ["openclipart"]),
        ("spaces", ["demo/openclipart", "smoke/fusion"]),
        ("samplers", ["tpe", "random", "qmc", "nsga2", "gp", "brute_force"]),
        ("schedulers", ["asha", "none"]),
        ("metrics", [*records.METRICS, *records.COSTS]),
    ],
)
def test_list(mmtune, what, names):
    done = mmtune("list", what)
    rows = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()[1:]]
    assert done.code == 0 and {row[0] for row in rows} >= {*names}
    assert all(row[-1] for row in rows)


def test_a_family_names_the_loss_terms_that_it_adds(mmtune):
    lines = {line.split()[0]: line.rstrip() for line in mmtune("list", "families").out.splitlines()}
    assert lines["flava"].endswith("unimodal") and "kl, subsets" in lines["mvae"]


def test_list_of_what_there_is_not(mmtune):
    message = mmtune.refused("list", "familes")
    assert message.startswith("'familes' is unknown, did you mean 'families'? Known: families, datasets, spaces, ")
