"""Ray's processes, few and forks: what they have in common, what they must not, and what happens without a server."""

import os
import subprocess
import sys

import pytest

from mmtune.slots.forked import SOCKET, asks
from mmtune.slots.forkserver import serving

SESSION = """
import json, os, signal, sys
from pathlib import Path

from mmtune.slots.cluster import ray_session

def called(pid):
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\\0", " ")

with ray_session(None):
    import ray
    from ray._raylet import UniqueID

    @ray.remote(num_cpus=0.1)
    class Process:
        def facts(self):
            def parent(pid):
                return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

            server = called(parent(os.getpid()))
            return {
                "parent": "server" if "mmtune.slots.forkserver" in server else server,
                "server": parent(os.getpid()), "pid": os.getpid(), "has_torch": "torch" in sys.modules,
                "id": UniqueID.from_random().hex(), "folder": os.getcwd(), "group": os.getpgid(0),
                "given": os.environ.get("GIVEN"), "job": ray.get_runtime_context().get_job_id(),
                "own_job": int(os.environ["RAY_JOB_ID"], 16),
            }

    forked = [Process.remote() for _ in range(3)]
    forked.append(Process.options(runtime_env={"env_vars": {"GIVEN": "${HOME}-${NOT_THERE}"}}).remote())
    said = ray.get([process.facts.remote() for process in forked])
    entries = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    parents = {int(entry.name): int((entry / "stat").read_text().rpartition(")")[2].split()[1]) for entry in entries}
    (raylet,) = [pid for pid, by in parents.items() if by == os.getpid() and "/raylet " in called(pid)]
    rays = [called(pid) for pid, by in parents.items() if by in (os.getpid(), raylet)]
    os.kill(said[0]["server"], signal.SIGKILL)
    alone = ray.get(Process.options(runtime_env={"env_vars": {"GIVEN": "again"}}).remote().facts.remote())
    print(json.dumps({"forked": said, "alone": alone, "rays": rays, "job": ray.get_runtime_context().get_job_id()}))
"""


@pytest.mark.slow
def test_processes_are_few_and_forks_that_share_imports_and_no_ids(tmp_path):
    """And after the server was killed Ray starts the next one as it does without a server."""
    import json

    environment = os.environ | {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", SESSION], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=600
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout.splitlines()[-1])
    forked = said["forked"]
    assert {one["parent"] for one in forked} == {"server"} and all(one["has_torch"] for one in forked)
    assert len({one["id"] for one in forked}) == 4
    assert all(one["group"] == one["pid"] for one in forked)  # Ray ends a worker's whole process group
    assert {one["job"] for one in forked} == {said["job"]}
    assert [one["given"] for one in forked] == [None, None, None, f"{tmp_path}-"]
    assert {one["folder"] for one in forked} == {said["alone"]["folder"]}
    assert "raylet" in said["alone"]["parent"] and said["alone"]["given"] == "again"
    assert not said["alone"]["has_torch"]
    needed = ("slots.forkserver", "slots.reaper", "/gcs_server ", "/raylet ", "slots/agent.py", "ray::RuntimeEnvAgent")
    assert len(said["rays"]) == len(needed) and all(any(name in one for one in said["rays"]) for name in needed)
    left = [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(("mmtune-", "torchinductor"))]
    assert not left


def test_a_server_that_is_not_there_is_told_from_one_that_forks(tmp_path):
    assert not asks(str(tmp_path / "nobody"), ["worker.py"], {})


@pytest.mark.skipif(sys.platform != "linux", reason="there is none elsewhere")
def test_a_server_within_another_is_that_one_and_nothing_is_left_of_it(tmp_path):
    with serving(str(tmp_path)):
        path = os.environ[SOCKET]
        with serving(str(tmp_path)):
            assert os.environ[SOCKET] == path
        assert os.environ[SOCKET] == path and os.path.exists(path) and len(os.listdir(tmp_path)) == 1
    assert SOCKET not in os.environ and not os.listdir(tmp_path)
    with pytest.raises(KeyboardInterrupt), serving(str(tmp_path)):
        raise KeyboardInterrupt
    assert SOCKET not in os.environ and not os.listdir(tmp_path)
