"""The files of scripts/cluster against Ray's own schema, each other and what was tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import mmtune

ROOT = Path(__file__).parents[1]
FILES = ROOT / "scripts" / "cluster"
RAY = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aws", "onprem"])
def test_ray_up_takes_the_file(name):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((FILES / f"{name}.yaml").read_text()))
    validate_config(config)
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in command for command in starts if "ray start" in command)
    with pytest.raises(Exception, match="Additional properties"):
        validate_config(config | {"max_worker": 3})


def test_kuberay_files_ask_for_eight_gpus_with_a_token():
    cluster = yaml.safe_load((FILES / "kuberay-cluster.yaml").read_text())
    job = yaml.safe_load((FILES / "kuberay-job.yaml").read_text())
    assert (cluster["apiVersion"], cluster["kind"], job["kind"]) == ("ray.io/v1", "RayCluster", "RayJob")
    spec = cluster["spec"]
    assert job["spec"]["rayClusterSpec"] == spec  # one is the other's
    assert spec["rayVersion"] == RAY and spec["authOptions"] == {"mode": "token"}
    (gpu,) = spec["workerGroupSpecs"]
    groups = [spec["headGroupSpec"], gpu]
    containers = [container for group in groups for container in group["template"]["spec"]["containers"]]
    assert {container["image"] for container in containers} == {f"REGISTRY/mmtune:{mmtune.__version__}"}
    assert gpu["maxReplicas"] * int(containers[1]["resources"]["limits"]["nvidia.com/gpu"]) == 8
    assert "--resume auto" in job["spec"]["entrypoint"] and job["spec"]["backoffLimit"] > 0


def test_the_image_pins_what_was_tested():
    text = (FILES / "Dockerfile").read_text()
    assert "FROM python:3.11-" in text and "-c /home/ray/mmtune/constraints.txt" in text


def test_the_slurm_script_is_sound():
    script = FILES / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    found = subprocess.run([Path(sys.executable).with_name("shellcheck"), script], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
    without = subprocess.run([script], capture_output=True, text=True)
    assert without.returncode == 2 and without.stderr.startswith("usage: sbatch")
