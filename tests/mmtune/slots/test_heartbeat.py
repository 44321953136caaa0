"""Workers that fall silent are named once, and given up after a while."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mmtune.slots.heartbeat import Beats, Place, kill_worker

HERE, THERE = Place("here", "n1", 11), Place("there", "n2", 22)


def test_a_silent_worker_is_named_once_and_then_replaced():
    now = 0.0
    beats = Beats(replaced_after=60.0, clock=lambda: now)
    assert beats.beat("slot-0", 0, HERE) is None and beats.beat("slot-0", 1, THERE) is None
    now = 29.0
    beats.beat("slot-0", 1, THERE)
    assert beats.silent() == []
    now = 30.0
    named = "worker 0 of slot-0 has not answered for 30 s (process 11 on here); it is replaced after 60 s"
    assert beats.silent() == [named] and beats.silent() == []
    now = 40.0
    assert beats.beat("slot-0", 0, HERE) == "worker 0 of slot-0 answers again (process 11 on here)"
    beats.beat("slot-0", 1, THERE)
    now = 99.0
    beats.beat("slot-0", 1, THERE)
    assert beats.to_replace() == []
    now = 100.0
    assert beats.to_replace() == [HERE] and beats.to_replace() == []
    beats.forget("slot-0")
    now = 1000.0
    assert beats.silent() == [] and beats.to_replace() == []


def test_one_that_comes_in_the_place_of_a_silent_one_is_not_said_to_answer_again():
    now = 0.0
    beats = Beats(replaced_after=0.0, clock=lambda: now)
    beats.beat("slot-0", 0, HERE)
    now = 30.0
    assert len(beats.silent()) == 1
    assert beats.beat("slot-0", 0, THERE) is None and beats.silent() == []


def test_a_worker_whose_node_has_left_is_named_at_once_and_with_it():
    now = 0.0
    beats = Beats(replaced_after=0.0, clock=lambda: now)
    beats.beat("slot-0", 0, HERE)
    beats.beat("slot-0", 1, THERE)
    now = 1.0
    assert beats.silent({"n2", "n3"}) == [
        "worker 1 of slot-0: there has left the cluster; slot-0 waits for another node"
    ]
    now = 30.0
    beats.beat("slot-0", 0, HERE)
    assert beats.silent({"n2", "n3"}) == []
    assert beats.beat("slot-0", 1, HERE) is None


def test_zero_never_replaces():
    now = 0.0
    beats = Beats(replaced_after=0.0, clock=lambda: now)
    beats.beat("slot-0", 0, HERE)
    now = 1e6
    assert beats.silent() == ["worker 0 of slot-0 has not answered for 30 s (process 11 on here)"]
    assert beats.to_replace() == []


def test_a_frozen_worker_is_killed_and_nobody_else():
    code = "import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, "ray::RayTrainWorker"]) as frozen:
        try:
            while not Path(f"/proc/{frozen.pid}/cmdline").read_bytes():  # it is not yet what it will be
                time.sleep(0.01)
            os.kill(frozen.pid, signal.SIGSTOP)
            assert kill_worker(frozen.pid)
            assert frozen.wait(timeout=10) == -signal.SIGKILL
        finally:
            frozen.kill()
    with subprocess.Popen([sys.executable, "-c", code]) as other:
        assert not kill_worker(other.pid)
        assert other.poll() is None
        other.kill()
    assert not kill_worker(frozen.pid)
