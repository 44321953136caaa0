import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cases
import pytest

from mmtune.records import INFERENCE
from trainables.clock import PARTS
from trainables.config import TrialConfig
from trainables.data.formats import DATASETS

HERE = Path(__file__).parent
MEASURED = (
    *("wall_seconds", "device_seconds", *PARTS, "setup_seconds"),
    *("cache_seconds", "samples_per_second", "peak_memory_gib", *INFERENCE),
)

Rows = list[dict[str, Any]]


@pytest.fixture(scope="session")
def toy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def cache(toy_cache: Path) -> Iterator[Path]:
    """While a file of this folder runs: a cache of this session's own, and the toy dataset known under 'toy'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMTUNE_CACHE", str(toy_cache))
        patch.syspath_prepend(str(HERE))
        patch.setitem(DATASETS, "toy", "toy_dataset")
        yield toy_cache


@pytest.fixture(scope="session")
def toy() -> Callable[..., TrialConfig]:
    """A small config on the toy dataset: toy("fusion", model={"kind": "late"}, epochs=2)."""

    def make(family: str, *, model: dict[str, Any] | None = None, **given: Any) -> TrialConfig:
        fixed = {"dataset": "toy", "image_size": 16, "epochs": 2, "batch_size": 8, "precision": "fp32"}
        return TrialConfig(family=family, model={**cases.of(family).TINY, **(model or {})}, **{**fixed, **given})

    return make


@pytest.fixture(scope="session")
def unmeasured() -> Callable[[Rows], Rows]:
    """Rows without what a clock or the memory says."""

    def strip(rows: Rows) -> Rows:
        return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]

    return strip


@pytest.fixture(scope="session")
def in_new_processes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Rows]]:
    """Runs jobs (see worker.py) in ``world`` new processes; what each rank got out, or [] of a process that died."""

    def run(jobs: Rows, *, world: int = 1) -> list[Rows]:
        folder = tmp_path_factory.mktemp("jobs")
        file = folder / "jobs.json"
        file.write_text(json.dumps(jobs))
        path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "PYTHONPATH": path}
        command = [sys.executable, "-W", "error", str(HERE / "worker.py"), str(file)]
        processes = [subprocess.Popen([*command, str(rank), str(world)], env=env) for rank in range(world)]
        try:
            for process in processes:
                process.wait(timeout=1500)
        finally:
            for process in processes:
                process.kill()
        files = [folder / f"out-{rank}.json" for rank in range(world)]
        return [json.loads(out.read_text()) if out.exists() else [] for out in files]

    return run
