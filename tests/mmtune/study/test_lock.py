"""One writer at a time, as seen by other processes, and after a kill."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mmtune.records import StudyFolder
from mmtune.study.lock import StudyBusyError, lock_owner, locked, study_lock
from trainables.files import write_atomic


@contextmanager
def holder(folder: StudyFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process with the lock."""
    code = (
        "import sys, time; from pathlib import Path; from mmtune.records import StudyFolder\n"
        "from mmtune.study.lock import study_lock\n"
        "with study_lock(StudyFolder(Path(sys.argv[1]))):\n    print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder.root)], stdout=-1, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_one_writer_at_a_time(tmp_path):
    folder = StudyFolder(tmp_path)
    assert lock_owner(folder) is None and not list(tmp_path.iterdir())
    with holder(folder) as process:
        owner = f"process {process.pid} on {os.uname().nodename}"
        assert lock_owner(folder) == owner
        with pytest.raises(StudyBusyError, match=f"being written by {owner}"), study_lock(folder):
            pass
        assert lock_owner(folder) == owner  # the attempt has not broken it
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert lock_owner(folder) is None
        with study_lock(folder):
            assert lock_owner(folder) == f"process {os.getpid()} on {os.uname().nodename}"
            with pytest.raises(StudyBusyError), study_lock(folder):
                pass
    assert lock_owner(folder) is None


def test_the_lock_ends_with_an_error(tmp_path):
    with pytest.raises(RuntimeError), study_lock(StudyFolder(tmp_path)):
        raise RuntimeError
    with study_lock(StudyFolder(tmp_path)):
        pass


def test_a_file_system_without_locks_is_named_and_takes_no_writer(tmp_path, monkeypatch):
    """Not 'another process', whom a person would look for in vain; what is there can be read all the same."""

    def flock(handle, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    folder = StudyFolder(tmp_path)
    with pytest.raises(ValueError, match="its file system has no locks .No locks available.") as caught:
        with study_lock(folder):
            pass
    assert not isinstance(caught.value, StudyBusyError) and str(caught.value).startswith(f"{tmp_path}: ")
    assert lock_owner(folder) is None


def test_on_a_read_only_disk_nobody_writes_and_everybody_can_ask(tmp_path):
    with study_lock(StudyFolder(tmp_path)):
        pass
    code = (
        "import sys; from pathlib import Path; from mmtune.records import StudyFolder\n"
        "from mmtune.study.lock import lock_owner, study_lock\n"
        "print(lock_owner(StudyFolder(Path(sys.argv[1]))))\n"
        "with study_lock(StudyFolder(Path(sys.argv[1]))): pass\n"
    )
    unshare = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]
    mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$1" || exit 9'
    command = [*unshare, "sh", "-c", mount, "sh", str(tmp_path), sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 9 or done.stderr.startswith("unshare"):
        pytest.skip("no mount namespaces here")
    assert done.stdout == "None\n"
    assert done.stderr.endswith(f"OSError: [Errno 30] Read-only file system: '{tmp_path / '.lock'}'\n")


def test_who_waits_for_a_file_that_is_replaced_meanwhile_holds_the_new_one(tmp_path):
    path, log = tmp_path / "tested.csv", []

    def second():
        with locked(path) as handle:
            log.append(os.path.samestat(os.fstat(handle), path.stat()))

    with locked(path):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.2)
        write_atomic(path, "new")
        assert log == []
    waiting.join(10)
    assert log == [True] and path.read_text() == "new"
