"""A killed driver leaves nothing of its Ray behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DRIVER = """
from mmtune.slots.cluster import ray_session
with ray_session(None):
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
def test_thirty_seconds_after_a_killed_driver_nothing_of_its_ray_is_left():
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    with subprocess.Popen([sys.executable, "-c", DRIVER], stdout=-1, text=True, env=environment) as driver:
        assert driver.stdout is not None and driver.stdout.readline() == "up\n"
        started = below(driver.pid)
        assert len(started) > 5
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    deadline = time.monotonic() + 30
    while left := [pid for pid in started if is_running(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)
