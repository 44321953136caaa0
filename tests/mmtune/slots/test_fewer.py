"""What stands in the place of the dashboard's agent, and Ray's command line with it."""

import os
import subprocess
import sys
import time

import pytest
from ray import _raylet

from mmtune.slots import agent
from mmtune.slots.fewer import _with_agent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="as is the agent")


def test_the_agent_says_that_nothing_listens_and_ends_with_its_raylet(tmp_path):
    with subprocess.Popen(["sleep", "600"]) as raylet:
        command = [sys.executable, "-IS", agent.__file__, str(tmp_path), "ab", "--disable-metrics-collection"]
        with subprocess.Popen(command, env=os.environ | {"RAY_RAYLET_PID": str(raylet.pid)}) as process:
            deadline = time.monotonic() + 60
            while len(list(tmp_path.glob("*_ab"))) < 3:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.01)
            assert process.poll() is None
            raylet.kill()
            raylet.wait()
            assert process.wait(timeout=60) == 0
    ports = (
        "METRICS_AGENT_PORT_NAME",
        "METRICS_EXPORT_PORT_NAME",
        "DASHBOARD_AGENT_LISTEN_PORT_NAME",
    )  # Ray's own words
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"{getattr(_raylet, port)}_ab": "-1" for port in ports
    }


def test_a_raylet_gets_the_agent_and_keeps_the_rest_of_its_command_line():
    given = [
        "raylet",
        "--session_dir=/a b/c",
        "--node_id=12",
        "--dashboard_agent_command=python agent.py --x=1",
        "--head",
    ]
    with_agent = _with_agent(given)
    assert [*with_agent[:3], with_agent[4]] == [*given[:3], given[4]]
    name, _, command = with_agent[3].partition("=")
    assert name == "--dashboard_agent_command" and command.endswith('slots/agent.py "/a b/c" 12')
