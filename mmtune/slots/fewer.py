"""A local Ray without those of its processes that serve nobody here.

Left out are the autoscaler, the monitor that carries workers' output to the driver, the API server and the agent behind
Ray's dashboard: four interpreters of a second each, and for the agent Ray's start waits. What asks them (``ray list``,
``ray status``, jobs) has no answer of a study's own Ray; without a dashboard it had none before either.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

_AGENT, _SCRIPT = "--dashboard_agent_command", Path(__file__).with_name("agent.py")


@contextlib.contextmanager
def few_processes() -> Iterator[None]:
    """A Ray that starts in the block has only the processes that it needs; ``ray.init`` has no argument for it."""
    from ray._private import ray_constants, services, utils
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    params, start = RayParams.__init__, services.start_ray_process

    def with_few(self: Any, *args: Any, **settings: Any) -> None:
        params(self, *args, **{"no_monitor": True, "include_log_monitor": False} | settings)

    def without_server(self: Any, **settings: Any) -> None:
        self._webui_url = ""

    def nothing_missing() -> None:
        """What the dashboard needs, which Ray imports to say whether it is there."""

    def with_agent(command: list[str], process_type: str, *args: Any, **settings: Any) -> Any:
        is_raylet = process_type == ray_constants.PROCESS_TYPE_RAYLET
        return start(_with_agent(command) if is_raylet else command, process_type, *args, **settings)

    with (
        mock.patch.object(RayParams, "__init__", with_few),
        mock.patch.object(Node, "start_api_server", without_server),
        mock.patch.object(utils, "get_dashboard_dependency_error", nothing_missing),
    ):
        if sys.platform != "linux":  # no pidfd
            yield
            return
        with mock.patch.object(services, "start_ray_process", with_agent):
            yield


def _with_agent(command: list[str]) -> list[str]:
    """A raylet's command line with ``agent.py`` as its agent."""
    given = {name: value for name, _, value in (said.partition("=") for said in command)}
    agent = subprocess.list2cmdline([sys.executable, "-IS", str(_SCRIPT), given["--session_dir"], given["--node_id"]])
    return [f"{_AGENT}={agent}" if said.startswith(f"{_AGENT}=") else said for said in command]
