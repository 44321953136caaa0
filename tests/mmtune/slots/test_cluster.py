"""How many workers fit, against a search that tries to place them one by one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from mmtune.slots.cluster import Node, local_node, local_nodes, ray_session, workers_that_fit


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


@pytest.mark.parametrize(
    "nodes, cpus, gpus",
    [
        ([], "1", "0"),
        ([Node(7, 0, 1)], "0.1", "0"),  # 7 / 0.1 is 70 in Ray's unit
        ([Node(7, 0, 1)], "3", "0"),  # what is left of a node is lost
        ([Node(0.3, 0, 1), Node(2, 1, 1)], "0.1", "0"),  # 0.3 / 0.1 is 2.9999999999999996 to a float
        ([Node(0.3, 0, 1), Node(2, 1, 1)], "0.1", "0.3"),  # three shares of a GPU, a tenth of it is lost
        ([Node(3, 2, 1), Node(16, 3, 1)], "2", "0.6"),  # CPUs end first on one node, GPUs on the other
        ([Node(3, 2, 1), Node(5, 3, 1)], "0.5", "0.4"),  # two workers a GPU, whatever the CPUs would hold
        ([Node(16, 8, 1), Node(16, 8, 1), Node(4, 0, 1)], "3", "1"),  # a node without GPUs holds none
        ([Node(16, 8, 1), Node(16, 8, 1), Node(4, 0, 1)], "0.3", "0.1"),
    ],
)
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


def test_without_a_place_for_sockets_nothing_starts(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("x" * 60)))  # too long, but /tmp will do
    assert local_nodes() == [local_node()]
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match="TMPDIR: Ray cannot make its sockets in .*xxx, .* at most 39 characters"):
        local_nodes()


LONG = """
import ray
from mmtune.slots.cluster import ray_session
with ray_session(None):
    print(ray.get(ray.remote(lambda: 7).remote()), ray._private.worker._global_node.get_session_dir_path())
"""


@pytest.mark.slow
def test_a_long_tmpdir_is_worked_around_and_nothing_is_left(tmp_path):
    """As job schedulers make them: Ray's sockets have paths of at most 107 bytes."""
    folder = tmp_path / ("x" * 60)
    folder.mkdir()
    environment = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, env=environment, check=True)
    result, session = done.stdout.split()
    assert result == "7" and Path(session).parts[2].startswith("mmtune-")
    assert not Path(session).exists() and not Path(session).parent.exists() and not any(folder.iterdir())


SETTINGS = """
import sys
from mmtune.slots import cluster
from mmtune.spec.search_spec import load_spec
from mmtune.study import run
from mmtune.study.create import create_study
spec = load_spec(open(sys.argv[1]).read())
def started(folder):
    from ray._private import ray_constants
    print(ray_constants.RAY_DEDUP_LOGS_SKIP_REGEX)
    raise SystemExit
cluster._started = started
run.run_study(create_study(spec, storage=sys.argv[2]), say=None)
"""


@pytest.mark.slow
def test_a_machine_too_busy_for_ray_is_told_in_a_line(monkeypatch):
    """After a second try; what the first has started is gone by then."""
    import ray

    left = []

    def init(**settings: object) -> None:
        assert all(process.wait(timeout=30) == -signal.SIGKILL for process in left)
        left.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "/ray/raylet"]))
        raise Exception("The current node timed out during startup. This could\nhappen")  # as Ray's node.py does

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ValueError, match=r"^Ray does not start here: The current node timed out during startup\."):
        with ray_session(None):
            pass
    assert len(left) == 2 and all(process.wait(timeout=30) == -signal.SIGKILL for process in left)


@pytest.mark.slow
def test_a_study_sets_what_ray_reads_before_ray_is_imported(tmp_path):
    file = Path(__file__).parents[3] / "search_spaces" / "smoke" / "text.yaml"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    command = [sys.executable, "-c", SETTINGS, str(file), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1500)
    assert done.stdout == ".\n", done.stderr
