"""Studies in object storage, on real servers on loopback: S3's, and Azure's and HDFS's where they are installed."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from mmtune import open as opened
from mmtune import records, resume
from mmtune.records import StudyFolder
from mmtune.spec.search_spec import load_spec
from mmtune.storage.commits import Commits, restore
from mmtune.storage.fetching import here
from mmtune.storage.lease import NAME, Lease
from mmtune.storage.store import MARK, Store, resumed_by, working_folder
from mmtune.storage.trialfiles import TrialFiles
from mmtune.study.create import create_study
from mmtune.study.lock import StudyBusyError
from trainables.data.cache.store import entries
from trainables.files import append, write_atomic

SEARCH = """\
study: s
family: text
dataset: openclipart
fixed: {epochs: 3, max_train_rows: 192, max_text_len: 8, model.text_encoder: tiny-bert, seed: 1}
space: {optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}}
scheduler: {name: asha, grace_epochs: 1, reduction_factor: 2}
sampler: {name: random, seed: 2}
budget: {trials: 3}
resources: {cpus_per_worker: 1, concurrent_trials: 1}
"""


def content(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


@pytest.mark.slow
def test_each_commit_holds_one_moment(store, tmp_path):
    """Files that grow, are replaced, come and go, as a ledger's do: what is fetched is what was there, to the byte."""
    rng, folder = random.Random(0), StudyFolder(tmp_path / "s")
    write_atomic(folder.spec, "a\n")
    commits = Commits(store, folder)
    for step in range(130):  # a whole one in between
        for name in rng.sample(["reports.csv", "optuna.log", "trials.csv", "changes.csv"], 2):
            path, data = folder.root / name, rng.randbytes(rng.randrange(1, 50))
            if path.exists() and rng.random() < 0.7:
                append(path, data)
            elif path.exists() and rng.random() < 0.3:
                path.unlink()
            else:
                write_atomic(path, data)
        trial = f"t{step % 7:04d}"
        write_atomic(folder.trial(trial) / "config.yaml", rng.randbytes(10))
        made = commits.changes([trial])
        assert made is not None
        commits.put(made)
        if step % 23 == 0:
            other = StudyFolder(tmp_path / "other" / "s")
            restore(store, other)
            assert content(other.root) == content(folder.root), step
            commits = Commits(store, folder) if step % 2 else commits  # a driver that goes on
    assert commits.changes() is None and len(store.names("ledger")) <= 101


@pytest.mark.slow
def test_a_commit_that_failed_is_made_up_for(store, tmp_path, monkeypatch):
    folder = StudyFolder(tmp_path / "s")
    write_atomic(folder.spec, "a\n")
    commits = Commits(store, folder)
    commits.put(commits.changes())
    append(folder.spec, b"b\n")
    lost = commits.changes()
    with monkeypatch.context() as broken:
        broken.setattr(Store, "put", lambda *_: (_ for _ in ()).throw(OSError("gone")))
        with pytest.raises(OSError, match="gone"):
            commits.put(lost)
    append(folder.spec, b"c\n")
    commits.put(commits.changes())
    restore(store, StudyFolder(tmp_path / "other"))
    assert (tmp_path / "other" / "spec.yaml").read_text() == "a\nb\nc\n"


QUICK = {"renewed": 0.2, "expires": 2.0, "settles": 0.6}


@pytest.mark.slow
def test_the_second_driver_is_refused_and_a_dead_ones_lease_is_taken_over(store, monkeypatch):
    said = []
    first = Lease(store, said.append, **QUICK)
    with pytest.raises(StudyBusyError, match=f"being written by process {os.getpid()} on "):
        Lease(store, said.append, **QUICK)  # on the same machine: at once
    real = json.loads(store.get(NAME))
    monkeypatch.setattr("mmtune.storage.lease._me", lambda: {"pid": 1, "host": "elsewhere", "boot": "other"})
    began = time.monotonic()
    with pytest.raises(StudyBusyError, match=f"process {real['pid']} on {real['host']}"):
        Lease(store, said.append, **QUICK)  # on another: it is seen to live
    assert time.monotonic() - began < 2 and len(said) == 1
    first._over.set()  # as a kill would
    first._thread.join()
    second = Lease(store, said.append, **QUICK)
    second.check()
    with pytest.raises(StudyBusyError, match="no longer ours, it was taken over by process 1 on elsewhere"):
        first._renew()
    first.release()  # leaves the other's
    second.check()
    second.release()
    assert store.get(NAME) is None


@pytest.mark.slow
def test_a_write_that_takes_long_is_made_again_and_no_store_that_is_always_slow_is_used(s3, monkeypatch):
    put, delays = Store.put, iter([0.4, 0.4])

    def slowly(store: Store, name: str, data: bytes) -> None:
        put(store, name, data)
        time.sleep(next(delays, 0))

    monkeypatch.setattr(Store, "put", slowly)
    Lease(s3, lambda line: None, **QUICK).release()
    delays = itertools.repeat(0.4)
    with pytest.raises(OSError, match=f"{s3.url}: a small object takes over 0.3 s to write"):
        Lease(s3, lambda line: None, **QUICK)


@pytest.mark.slow
def test_of_drivers_that_begin_at_once_one_holds_the_study(store, monkeypatch):
    monkeypatch.setattr("mmtune.storage.lease._is_here", lambda found: False)
    held, refused = [], []

    def begin():
        try:
            held.append(Lease(store, lambda line: None, **QUICK))
        except StudyBusyError as error:
            refused.append(error)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 3)
    held[0].release()


def test_a_trials_files_on_another_node(store, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    url = f"{store.url}/trials/t0000"
    first = TrialFiles(url, one)
    first.fetch()
    write_atomic(one / "last.safetensors", b"1")
    write_atomic(one / "config.yaml", b"the driver's")
    first.upload()
    write_atomic(two / "last.safetensors", b"0")  # of an earlier time
    write_atomic(two / "best.safetensors", b"0")
    second = TrialFiles(url, two)
    second.fetch()
    assert content(two) == {"last.safetensors": b"1"}
    write_atomic(two / "last.safetensors", b"2")
    second.upload()
    TrialFiles(url, one).fetch()
    assert content(one) == {"last.safetensors": b"2", "config.yaml": b"the driver's"}
    store.delete("trials/t0000/last.safetensors")
    third = TrialFiles(url, one)
    third.fetch()
    write_atomic(one / "last.safetensors", b"2")  # trained again, to the same bytes
    third.upload()
    assert store.get("trials/t0000/last.safetensors") == b"2"


def mmtune(*args: object, cwd: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mmtune.cli", *map(str, args)]
    return subprocess.Popen(command, cwd=cwd, env=os.environ | env, stdout=-1, stderr=-1, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "url, env, message",
    [
        ("s3://nothing/x", {}, "s3://nothing/x: AWS Error NO_SUCH_BUCKET"),
        ("s3://bucket/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "s3://bucket/x: AWS Error NETWORK_CONNECTION"),
        ("ftp://host/x", {}, "ftp://host/x: ftp:// is not supported; s3://, gs://, az:// or hdfs://, or a folder"),
        ("s3://", {}, "s3://: write s3://bucket/folder"),
    ],
)
def test_what_no_store_is(s3, monkeypatch, url, env, message):
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ValueError) as error:
        Store(url).check()
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_a_store_that_lets_nobody_in(moto, s3):
    """moto asks for no key until it is told to."""
    where = f"{moto.env['AWS_ENDPOINT_URL']}/moto-api/reset-auth"

    def ask_for_keys_after(calls: bytes) -> None:
        question = urllib.request.Request(where, data=calls, method="POST", headers={"Content-Type": "text/plain"})
        urllib.request.urlopen(question).close()

    ask_for_keys_after(b"0")
    try:
        with pytest.raises(ValueError, match=f"{s3.url}: AWS Error \\w+") as error:
            s3.check()
        assert "\n" not in str(error.value)
    finally:
        ask_for_keys_after(b"1000000")


def test_readers_fetch_a_study_from_its_url(store, tmp_path):
    made = create_study(load_spec(SEARCH), storage=tmp_path / "made")
    write_atomic(made.trials, "trial,state,epochs,best_epoch,optim.lr,val_accuracy\nt0000,COMPLETE,1,1,0.001,0.5\n")
    write_atomic(made.reports, "trial,epoch,val_accuracy\nt0000,1,0.5\n")
    write_atomic(made.trial("t0000") / "config.yaml", "x: 1\n")
    commits = Commits(store, made)
    commits.put(commits.changes())
    for name in ("predictions.parquet", "last.safetensors", "best.safetensors"):
        store.put(f"trials/t0000/{name}", b"1")
    study = opened(store.url)
    assert (study.name, list(study.trials["trial"]), study.path) == ("s", ["t0000"], working_folder(store.url))
    assert sorted(content(study.path / "trials")) == ["t0000/config.yaml", "t0000/predictions.parquet"]
    assert not [entry for entry in entries() if study.path.is_relative_to(entry.path)]  # data prune lets it be
    assert here(f"{store.url}/t0000", with_weights=True) == str(study.path / "t0000")
    assert (study.path / "trials" / "t0000" / "best.safetensors").read_bytes() == b"1"
    with pytest.raises(ValueError, match=f"is the working folder of another; go on with it: mmtune resume {store.url}"):
        resume(study)
    with pytest.raises(ValueError, match=f"{store.url}x: no study is there"):
        opened(store.url + "x")


@pytest.mark.parametrize(
    "url, told, message",
    [
        ("az://nothing/x", "", "az://nothing/x: The specified container does not exist"),
        (
            "az://bucket/x",
            "AccountName=tests;AccountKey=YQ==",
            "az://bucket/x: Server failed to authenticate the request",
        ),
        ("az://bucket/x", "AccountName=", "az://bucket/x: "),
    ],
)
def test_what_no_store_of_azure_is(azurite, monkeypatch, url, told, message):
    (name, value), *_ = azurite.env.items()
    right = re.search("AccountName=.*?;AccountKey=[^;]*", value)
    assert right is not None
    monkeypatch.setenv(name, value.replace(right[0], told) if told else value)
    with pytest.raises(ValueError) as error:
        Store(url).check()
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("host, reason", [("127.0.0.1:1", "Connection refused"), ("nothing.invalid:80", ".*[Nn]ame.*")])
def test_azure_that_is_not_reached_is_said_before_its_package_has_tried_for_long(monkeypatch, host, reason):
    pytest.importorskip("adlfs")
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        f"DefaultEndpointsProtocol=http;AccountName=tests;AccountKey=YQ==;BlobEndpoint=http://{host}/tests;",
    )
    began = time.monotonic()
    with pytest.raises(ValueError, match=f"az://bucket/x: no blob service answers at {host}: {reason}"):
        Store("az://bucket/x").check()
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_a_url_that_is_refused_makes_nothing(moto, tmp_path):
    (tmp_path / "s.yaml").write_text(SEARCH)
    process = mmtune("run", "s.yaml", "--storage", "s3://nothing/x", cwd=tmp_path, env=moto.env)
    out, err = process.communicate()
    assert process.returncode == 2 and out == "" and err.startswith("mmtune: s3://nothing/x: AWS Error NO_SUCH_BUCKET")
    assert err.count("\n") == 1 and [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


def _reported(process, store, seen, reports):
    """Waits until the store of a study that runs has a ledger, and so many reports."""
    deadline, folder = time.monotonic() + 1200, StudyFolder(seen)
    while True:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        try:
            restore(store, folder)
        except ValueError:  # not yet
            time.sleep(0.2)
            continue
        if reports <= (len(records.read_rows(folder.reports)) if folder.reports.is_file() else 0):
            return
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_driver_goes_on_from_the_url_on_an_empty_folder_with_equal_results(store, server, tmp_path):
    (tmp_path / "s.yaml").write_text(SEARCH)
    url, env = store.url.removesuffix("/s"), server.env | {"MMTUNE_CACHE": str(tmp_path / "one")}
    process = mmtune("run", "s.yaml", "--storage", f"{url}/whole", "--confirm", 2, cwd=tmp_path, env=env)
    wanted = Store(f"{url}/whole/s")
    _reported(process, wanted, tmp_path / "begun", 0)
    refused = mmtune("resume", f"{url}/whole/s", cwd=tmp_path, env=server.env | {"MMTUNE_CACHE": str(tmp_path / "two")})
    assert f"s: being written by process {process.pid} on " in refused.communicate()[1] and refused.returncode == 2
    out, err = process.communicate(timeout=1500)
    assert process.returncode == 0 and f"mmtune report {url}/whole/s" in out, err
    restore(Store(f"{url}/whole/s-confirm"), StudyFolder(tmp_path / "confirm"))
    confirmed = records.read_rows(tmp_path / "confirm" / "trials.csv")
    assert [row["state"] for row in confirmed] == ["COMPLETE"] * 2
    assert all(0 < float(row["test_accuracy"]) < 1 for row in confirmed)
    process = mmtune("run", "s.yaml", "--storage", url, cwd=tmp_path, env=env)
    _reported(process, store, tmp_path / "seen", 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    two = server.env | {"MMTUNE_CACHE": str(tmp_path / "two")}
    resumed = mmtune("resume", f"{url}/s", cwd=tmp_path, env=two)
    out, err = resumed.communicate(timeout=1500)
    assert resumed.returncode == 0 and "recovered" in out, err
    rows = {}
    for name, of in (("a", wanted), ("b", store)):
        restore(of, StudyFolder(tmp_path / name))
        rows[name] = [
            {key: row[key] for key in ("trial", "epoch", "train_loss", "val_accuracy")}
            for row in records.read_rows(tmp_path / name / "reports.csv")
        ]
    assert rows["a"] == rows["b"] and len(rows["a"]) > 4
    kinds = {name for trial in store.folders("trials") for name in store.names(f"trials/{trial}")}
    assert not store.folders("tune") and store.get(NAME) is None
    assert "best.safetensors" in kinds and "last.safetensors" not in kinds  # nothing useless is left
    looked = (("test",), ("inspect", "--what", "errors", "--split", "test"))
    for looks, (verb, *options) in enumerate(looked, 1):  # each with nothing of the study
        three = server.env | {"MMTUNE_CACHE": str(tmp_path / verb)}
        out, err = mmtune(verb, f"{url}/s", *options, cwd=tmp_path, env=three).communicate(timeout=1500)
        restore(store, StudyFolder(tmp_path / "tested"))
        assert len(records.read_csv(tmp_path / "tested" / records.TESTED)) == looks, err
    seen = {name for trial in store.folders("trials") for name in store.names(f"trials/{trial}/inspected/test")}
    assert {"errors.csv", "error_pairs.csv"} <= seen
    (written,) = {name for trial in store.folders("trials") for name in store.folders(f"trials/{trial}/tested")}
    there = Path(here(f"{url}/s"))
    assert written == "test" and [*there.glob("trials/*/tested/test/metrics.json")]
    lease = Lease(store, lambda line: None, **QUICK)
    refused = mmtune("test", f"{url}/s", cwd=tmp_path, env=three)
    assert f"s: being written by process {os.getpid()}" in refused.communicate()[1] and refused.returncode == 2
    lease.release()


def test_a_working_folder_is_gone_on_with_by_its_url(tmp_path):
    assert resumed_by(tmp_path) == str(tmp_path)
    (tmp_path / MARK).write_text("s3://bucket/s\n")
    assert resumed_by(tmp_path) == "s3://bucket/s"
