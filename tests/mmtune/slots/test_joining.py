"""A cluster that wants a token, nodes that lack something or come and go while a study runs, and jobs handed in."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from mmtune import records
from mmtune.slots.joining import check_cluster

sys.path.insert(0, str(Path(__file__).parent))
from ray_nodes import RayNodes  # noqa: E402

ROOT = Path(__file__).parents[3]
SEARCH = """\
study: s
family: text
dataset: openclipart
fixed: {epochs: 1, max_train_rows: 64, max_text_len: 8, model.text_encoder: tiny-bert, seed: 1}
space: {optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}}
scheduler: {name: none}
sampler: {name: random}
budget: {trials: 400}
resources: {cpus_per_worker: 1}
"""
PAIR = """\
study: p
family: text
dataset: openclipart
fixed: {epochs: 20, batch_size: 16, max_train_rows: 320, max_text_len: 16, model.text_encoder: tiny-bert,
        model.lock_text: false, seed: 1}
space: {optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}}
try_first: [{optim.lr: 0.001}, {optim.lr: 0.001}]
scheduler: {name: none}
budget: {trials: 2}
resources: {workers: 2, cpus_per_worker: 1, concurrent_trials: 1}
"""
HIDE = """\
import sys
sys.path[:] = [path for path in sys.path if "__editable__" not in path]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "").lower()]
sys.path_hooks[:] = [hook for hook in sys.path_hooks if "editable" not in getattr(hook, "__module__", "").lower()]
"""


@pytest.mark.parametrize(
    "address, message",
    [
        ("ray://127.0.0.1:10001", "hand it in from here with scripts/submit, or write host:port on a node"),
        ("127.0.0.1:99999", "no Ray cluster answers at '127.0.0.1:99999'"),
        ("nonsense", "'nonsense' is no address of a Ray cluster; write host:port or auto"),
    ],
)
def test_what_is_no_address_of_a_head(address, message):
    with pytest.raises(ValueError) as error:
        check_cluster(address)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.fixture(scope="module")
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="mm-", dir="/tmp"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        nodes = RayNodes(folder)
        stack.callback(nodes.close)
        yield nodes


def mmtune(*args: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    names = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    home = cwd / "home"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-P", "-m", "mmtune.cli", *map(str, args)], cwd=cwd, capture_output=True, text=True,
        env=names | {"HOME": str(home)} | env,
    )  # fmt: skip


@pytest.mark.slow
def test_a_cluster_with_a_token_and_nodes_that_lack_something(cluster, tmp_path):
    (tmp_path / "s.yaml").write_text(SEARCH)
    check = ("check", "s.yaml", "--address", cluster.address)
    without = mmtune(*check, cwd=tmp_path)
    other = mmtune(*check, cwd=tmp_path, RAY_AUTH_TOKEN="0" * 64)
    wants = f"mmtune: the Ray cluster at '{cluster.address}' wants"
    assert without.stderr.startswith(f"{wants} its token: set RAY_AUTH_TOKEN") and without.stderr.count("\n") == 1
    assert other.stderr.startswith(f"{wants} another token than that of RAY_AUTH_TOKEN") and other.returncode == 2
    hidden, changed = tmp_path / "hidden", tmp_path / "changed"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(HIDE)
    for name in ("mmtune", "trainables"):
        shutil.copytree(ROOT / name, changed / name, symlinks=True)
    (changed / "mmtune" / "filling.py").write_text("# changed\n")
    bare = cluster.add(env={"PYTHONPATH": str(hidden)})
    token = {"RAY_AUTH_TOKEN_PATH": str(cluster.token)}
    lacks = mmtune(*check, cwd=tmp_path, **token)
    assert lacks.returncode == 2 and "mmtune, trainables cannot be imported in its Python" in lacks.stderr, lacks
    assert lacks.stderr.count("\n") == 1 and lacks.stdout == ""
    cluster.leave(bare)
    newer = cluster.add(env={"PYTHONPATH": str(changed)})
    differs = mmtune(*check, cwd=tmp_path, **token)
    assert differs.returncode == 2 and "has another mmtune, 0.1.0 (" in differs.stderr, differs
    assert differs.stderr.count("\n") == 1
    cluster.leave(newer)


@pytest.mark.slow
def test_a_node_where_the_data_are_not_mounted(cluster, tmp_path):
    """A real node in a mount namespace of its own: the folder is there, and empty."""
    unshare = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", str(tmp_path)], check=False).returncode:
        pytest.skip("no mount namespaces here")
    data = tmp_path / "data"
    data.mkdir()
    rows = [f"word{row},{'ab'[row % 2]},{('train', 'val')[row // 8]}" for row in range(16)]
    (data / "rows.csv").write_text("\n".join(["text,y,part", *rows]) + "\n")
    labels = "{y: {column: y, kind: multiclass}}"
    (data / "table.yaml").write_text(f"files: rows.csv\ntext: text\nsplit: part\nlabels: {labels}\n")
    (tmp_path / "s.yaml").write_text(SEARCH.replace("openclipart", "table"))
    hiding = [*unshare, "sh", "-c", f'mount -t tmpfs none "{data}" && exec "$@"', "sh"]
    blind = cluster.add(within=hiding)
    token = {"RAY_AUTH_TOKEN_PATH": str(cluster.token)}
    for verb in ("check", "run"):
        lacks = mmtune(verb, "s.yaml", "--address", cluster.address, "--data", "data", cwd=tmp_path, **token)
        assert lacks.returncode == 2 and lacks.stderr.count("\n") == 1 and not (tmp_path / "studies").exists(), lacks
        assert f"does not see the data in {data}; copy or mount them there on every node" in lacks.stderr
    cluster.leave(blind)


@pytest.mark.slow
def test_nodes_that_join_are_used_and_nodes_that_leave_cost_an_epoch(cluster, tmp_path):
    (tmp_path / "s.yaml").write_text(SEARCH)
    first = cluster.add()
    command = [sys.executable, "-P", "-m", "mmtune.cli", "run", "s.yaml", "--address", cluster.address]
    said = tmp_path / "said"
    with said.open("w") as out:
        process = subprocess.Popen(command, cwd=tmp_path, env=cluster.environment, stdout=out, stderr=out)
    folder = records.StudyFolder(tmp_path / "studies" / "s")

    def wait_for(what, seconds):
        began = time.monotonic()
        while not what():
            assert process.poll() is None and time.monotonic() - began < seconds, said.read_text()
            time.sleep(0.2)
        return time.monotonic() - began

    def running():
        return [row["trial"] for row in records.read_trials(folder) if row["state"] == records.RUNNING]

    def ended():
        return [row for row in records.read_trials(folder) if row["state"] in records.ENDED]

    try:
        wait_for(lambda: ended(), 300)
        assert len(running()) <= 1
        second = cluster.add()
        wait_for(lambda: "2 slots, 1 before" in said.read_text(), 60)
        wait_for(lambda: len(running()) == 2, 300)  # the new slot's processes import torch first
        wait_for(lambda: len(ended()) > 4, 300)
        cluster.leave(first)
        count = len(ended())
        wait_for(lambda: len(ended()) > count + 3, 300)  # on the other
        assert {row["state"] for row in ended()} == {records.COMPLETE}
        process.send_signal(signal.SIGINT)
        assert process.wait(600) == 130, said.read_text()
        rows = records.read_rows(folder.reports)
        assert len({(row["trial"], row["epoch"]) for row in rows}) == len(rows)
        cluster.leave(second)
    finally:
        process.kill()


@pytest.mark.slow
def test_a_study_handed_in_as_a_job_is_killed_and_goes_on(cluster, tmp_path):
    (tmp_path / "s.yaml").write_text(SEARCH.replace("400", "6").replace("epochs: 1", "epochs: 10"))
    worker = cluster.add()
    storage, url = tmp_path / "studies", f"http://127.0.0.1:{cluster.dashboard}"
    folder = records.StudyFolder(storage / "s")

    def submit(*args: str, **env: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", str(ROOT / "scripts" / "submit"), "--address", url, *args]
        names = cluster.environment | env
        return subprocess.Popen(command, cwd=tmp_path, env=names, stdout=-1, stderr=subprocess.STDOUT, text=True)

    verb = ["--", "run", "s.yaml", "--storage", str(storage), "--resume", "auto"]
    refused, _ = (client := submit(*verb, RAY_AUTH_TOKEN="0" * 64)).communicate()
    assert client.returncode == 2 and f"submit: {url}: wants the cluster's token" in refused, refused
    client = submit("--id", "first", *verb)
    deadline = time.monotonic() + 1200
    while len(records.read_rows(folder.reports)) < 4:
        assert client.poll() is None and time.monotonic() < deadline, client.communicate()
        time.sleep(0.2)
    client.send_signal(signal.SIGINT)  # the laptop is closed
    assert "it goes on. Again: scripts/submit --follow first" in client.communicate()[0] and client.returncode == 130
    os.kill(json.loads(folder.lock.read_text())["pid"], signal.SIGKILL)
    lost, _ = (client := submit("--follow", "first")).communicate()
    assert client.returncode != 0 and "first: failed" in lost, lost
    assert {row["state"] for row in records.read_trials(folder)} != {records.COMPLETE}
    said, _ = (client := submit("--id", "second", *verb)).communicate()
    assert client.returncode == 0 and f"going on with {folder.root}, as it began" in said, said
    rows = records.read_rows(folder.reports)
    assert sorted((row["trial"], row["epoch"]) for row in rows) == [
        (f"t{trial:04d}", epoch) for trial in range(6) for epoch in range(1, 11)
    ]
    cluster.leave(worker)


@pytest.mark.slow
def test_two_workers_lose_a_node_and_then_the_drivers_own(cluster, tmp_path):
    """The last of the cluster: a node of one worker is gone, then the head's raylet; the study goes on without them."""
    (tmp_path / "s.yaml").write_text(PAIR)
    nodes, said = [cluster.add(), cluster.add()], tmp_path / "said"
    folder = records.StudyFolder(tmp_path / "studies" / "p")

    def start(*verb: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
        with said.open("a") as out:
            command = [sys.executable, "-P", "-m", "mmtune.cli", *verb]
            return subprocess.Popen(command, cwd=tmp_path, env=env, stdout=out, stderr=out)

    def wait_for(what):
        deadline = time.monotonic() + 1200
        while not what():
            assert process.poll() is None and time.monotonic() < deadline, said.read_text()
            time.sleep(0.1)

    def epochs():
        return len(records.read_rows(folder.reports))

    process = start("run", "s.yaml", "--address", cluster.address, env=cluster.environment)
    try:
        wait_for(lambda: epochs() > 0)
        cluster.leave(nodes[0])
        wait_for(lambda: "has left the cluster; slot-0 waits for another node\n" in said.read_text())
        cluster.add()
        wait_for(lambda: "t0000: its worker died; it goes on after epoch" in said.read_text())
        known = epochs()
        wait_for(lambda: epochs() > known)
        (raylet,) = [each for each in psutil.Process(cluster.head.pid).children() if "raylet" in each.name()]
        raylet.kill()
        assert process.wait(120) == 1
        assert epochs() < 20 and "mmtune: Ray's raylet at" in said.read_text()
        assert said.read_text().endswith(f"not finished. Go on with: mmtune resume {folder.root}\n")
        names = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        process = start("resume", str(folder.root), env=names)
        assert process.wait(1500) == 0, said.read_text()
    finally:
        process.kill()
    assert "Traceback" not in said.read_text() and "(raylet" not in said.read_text()
    rows = records.read_rows(folder.reports)
    times = ("trial", "time", *records.SUMS, "samples_per_second", "peak_memory_gib")
    disturbed, whole = ([{name: cell for name, cell in row.items() if name not in times} for row in rows
                         if row["trial"] == trial] for trial in ("t0000", "t0001"))  # fmt: skip
    assert disturbed == whole and [row["epoch"] for row in whole] == list(range(1, 21))
