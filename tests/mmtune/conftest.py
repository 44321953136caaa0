"""``mmtune`` as a process of its own, without paying for the import of torch and transformers each time."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# A process that has imported what the verbs import; each job is a fork of it, with its own argv, folder and streams.
SERVER = """
import gc, json, os, sys
import analysis.report, mmtune.cli.app, mmtune.spec.search_spec, trainables.loop, trainables.model
from mmtune.cli import main
from trainables.config import TrialConfig
from trainables.families import FAMILIES, family_module
for family in FAMILIES:
    family_module(family)
tiny = {"text_encoder": "tiny-bert"}
trainables.model.model_size(TrialConfig(family="text", dataset="openclipart", model=tiny))
gc.freeze()
for line in sys.stdin:
    job = json.loads(line)
    if (pid := os.fork()) == 0:
        for stream, path in ((0, os.devnull), (1, job["out"]), (2, job["err"])):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), stream)
        os.chdir(job["cwd"])
        os.environ.update(job["env"])
        sys.argv = ["mmtune", *job["args"]]
        try:
            main()
        except SystemExit as end:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)  # taking all those modules down takes longer than the verb
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


class Command:
    """Runs ``mmtune`` with arguments in a folder, with ``env`` on top of the environment."""

    def __init__(self, server: subprocess.Popen[str], cwd: Path, streams: Path) -> None:
        self.server, self.cwd, self.streams = server, cwd, streams
        self.env: dict[str, str] = {}

    def __call__(self, *args: object) -> Done:
        out, err = self.streams / "out", self.streams / "err"
        for path in (out, err):
            path.unlink(missing_ok=True)
        job = {"args": [str(arg) for arg in args], "cwd": str(self.cwd), "out": str(out), "err": str(err)}
        job["env"] = self.env
        assert self.server.stdin is not None and self.server.stdout is not None
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        code = int(self.server.stdout.readline())
        return Done(code, out.read_text(), err.read_text())

    def content(self, folder: str = ".") -> dict[str, str]:
        """Each path below ``folder`` with a hash of what it holds; a lock file only names who had it last."""
        root = self.cwd / folder
        return {
            str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            for path in sorted(root.rglob("*"))
            if path.name != ".lock"
        }

    def refused(self, *args: object) -> str:
        """The message of a call that must fail and change nothing."""
        before = self.content()
        done = self(*args)
        assert done.code == 2, done
        assert self.content() == before
        assert done.out == "" and "Traceback" not in done.err
        assert done.err.count("mmtune: ") >= 1 and done.err.startswith("mmtune: ")
        return done.err.removeprefix("mmtune: ").rstrip("\n")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    environment.setdefault("MMTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def mmtune(server: subprocess.Popen[str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(server, tmp_path, tmp_path_factory.mktemp("streams"))


@pytest.fixture(scope="session")
def command(server: subprocess.Popen[str]) -> Callable[[Path, Path], Command]:
    """Makes a Command for a folder and one for its streams, where a fixture wants its own."""
    return lambda cwd, streams: Command(server, cwd, streams)
