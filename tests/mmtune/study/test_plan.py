"""What a study asks of a cluster, before it starts."""

from __future__ import annotations

import pytest

from mmtune.slots.cluster import Node
from mmtune.spec.search_spec import load_spec
from mmtune.study.plan import count_slots

SEARCH = """\
study: s
family: text
dataset: openclipart
budget: {trials: 100}
"""


def spec_of(resources: str, trials: int = 100):
    return load_spec(SEARCH, overrides=[f"resources={{{resources}}}", f"budget.trials={trials}"])


@pytest.mark.parametrize(
    "resources, nodes, trials, slots, fit",
    [
        ("", [Node(4, 0, 1)], 100, 4, 4),
        ("workers: 2", [Node(5, 0, 1)], 100, 2, 5),
        ("workers: 2", [Node(1, 0, 1)] * 4, 100, 2, 4),  # a trial may span nodes, a worker may not
        ("workers: 2, gpus_per_worker: 1", [Node(16, 3, 1), Node(16, 2, 1)], 100, 2, 5),
        ("gpus_per_worker: 0.5", [Node(16, 2, 1)], 100, 4, 4),
        ("concurrent_trials: 2", [Node(4, 0, 1)], 100, 2, 4),
        ("", [Node(4, 0, 1)], 3, 3, 4),  # no more slots than trials
    ],
)
def test_count_slots(resources, nodes, trials, slots, fit):
    assert count_slots(spec_of(resources, trials), nodes) == (slots, fit)


@pytest.mark.parametrize(
    "resources, nodes, message",
    [
        ("", [], "1 concurrent trial of 1 worker with 1 CPU each cannot be placed; the cluster has nothing"),
        ("workers: 3", [Node(2, 0, 1)], "1 concurrent trial of 3 workers with 1 CPU each cannot be placed; the cluster "
         "has 2 CPU and 0 GPU"),
        ("gpus_per_worker: 1", [Node(2, 0, 1)], "1 concurrent trial of 1 worker with 1 CPU and 1 GPU each cannot be "),
        ("concurrent_trials: 3", [Node(2, 0, 1)], "3 concurrent trials of 1 worker with 1 CPU each cannot be placed"),
        ("cpus_per_worker: 1.5", [Node(1, 0, 1), Node(1, 4, 1)], "the cluster has 1 CPU and 0 GPU, 1 CPU and 4 GPU"),
    ],
)  # fmt: skip
def test_what_cannot_be_placed(resources, nodes, message):
    with pytest.raises(ValueError) as caught:
        count_slots(spec_of(resources), nodes)
    assert message in str(caught.value) and str(caught.value).startswith("resources: ")
