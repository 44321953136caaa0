"""How many workers and trials fit, against a search that tries to place them one by one."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mmtune.slots.cluster import Node, local_node, workers_that_fit
from mmtune.spec.search_spec import load_spec
from mmtune.study.study import count_slots

SEARCH = """\
study: s
family: text
dataset: openclipart
budget: {trials: 100}
"""


def placed_one_by_one(nodes: list[Node], cpus: str, gpus: str) -> int:
    """Puts workers wherever there is room, in exact fractions; a worker lies on one node and on one of its GPUs."""
    count = 0
    for node in nodes:
        free, devices = Fraction(str(node.cpus)), [Fraction(1)] * int(node.gpus)
        while free >= Fraction(cpus):
            device = next((i for i, share in enumerate(devices) if share >= Fraction(gpus)), None)
            if Fraction(gpus) and device is None:
                break
            if device is not None:
                devices[device] -= Fraction(gpus)
            free -= Fraction(cpus)
            count += 1
    return count


CLUSTERS = [
    [],
    [Node(1, 0, 1)],
    [Node(7, 0, 1)],
    [Node(0.3, 0, 1), Node(2, 1, 1)],
    [Node(3, 2, 1), Node(5, 3, 1)],
    [Node(16, 8, 1), Node(16, 8, 1), Node(4, 0, 1)],
]


@pytest.mark.parametrize("nodes", CLUSTERS, ids=len)
@pytest.mark.parametrize("cpus", ["0.1", "0.3", "0.5", "1", "1.5", "2", "3"])
@pytest.mark.parametrize("gpus", ["0", "0.1", "0.3", "0.4", "0.6", "1"])
def test_workers_that_fit(nodes, cpus, gpus):
    assert workers_that_fit(nodes, cpus=float(cpus), gpus=float(gpus)) == placed_one_by_one(nodes, cpus, gpus)


def test_a_worker_without_cpus_takes_only_its_share_of_a_gpu():
    assert workers_that_fit([Node(1, 2, 1)], cpus=0, gpus=0.25) == 8
    assert workers_that_fit([Node(1, 2, 1)], cpus=0, gpus=0) == 0


def test_two_halves_of_a_worker_on_two_nodes_are_none():
    assert workers_that_fit([Node(1, 0, 1), Node(1, 0, 1)], cpus=2, gpus=0) == 0


def test_this_machine_is_a_node():
    node = local_node()
    assert node.cpus >= 1 and node.memory_gib > 0.1 and node.gpus == int(node.gpus)


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
