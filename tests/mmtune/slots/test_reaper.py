"""A driver that is killed, or that ends because Ray's head is, leaves nothing of its Ray behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DRIVER = """
from mmtune.slots.cluster import ray_session
from mmtune.slots.head import end_process, watching_head
with ray_session(None), watching_head(lambda what: end_process(what, "go on"), is_local=True):
    import time, ray
    ray.get(ray.remote(lambda: 0).remote())
    time.sleep(5)  # the reaper has looked by then
    print("up", flush=True)
    time.sleep(600)
"""


def below(pid):
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(child) for child in children] + [each for child in children for each in below(child)]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["driver", "gcs_server"])
def test_thirty_seconds_after_a_killed_driver_or_head_nothing_of_its_ray_is_left(killed):
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    with subprocess.Popen([sys.executable, "-c", DRIVER], stdout=-1, stderr=-1, text=True, env=environment) as driver:
        assert driver.stdout is not None and driver.stderr is not None and driver.stdout.readline() == "up\n"
        started = below(driver.pid)
        assert len(started) > 5
        if killed == "driver":
            driver.send_signal(signal.SIGKILL)
        else:
            heads = [pid for pid in started if b"gcs_server" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            for pid in heads:
                os.kill(pid, signal.SIGKILL)
            out, err = driver.communicate(timeout=30)  # of 60 s that Ray itself would wait
            assert driver.returncode == 1 and out == "go on\n"
            assert re.fullmatch(r"mmtune: Ray's head at [\w.:\[\]]+ died\n", err)
        driver.wait()
    deadline = time.monotonic() + 30
    while left := [pid for pid in started if is_running(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)
