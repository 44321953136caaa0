"""Records trainings for searches to be replayed on: 12 epochs of configurations of all families, drawn from one space.

What is trained is ``table/space.yaml``: ``family`` is searched, and configuration k is drawn by its number. Families
take turns by weight (300 fusion, 100 each of text, image and the VAEs, 60 LiT-TIRG, 20 of each other one), so that any
number of configurations is a fair sample. Each is trained by mmtune's own loop on one thread, two at the same time.

``table/trainings.parquet`` gets a row a configuration: number, params (JSON), state and error as a study has them, and
by epoch the metrics, ``device_seconds`` with their parts, and ``peak_memory_gib``. It is replaced as a whole after each
configuration, so that the recorder can be killed at any time; called again, it goes on with the missing numbers.

Seconds are CPU seconds of the training process, so that others on the machine do not count. They still slow it down: an
epoch took up to four times the CPU seconds where twenty processes shared two cores. So record where little else runs.
``device_seconds`` of an epoch are training, evaluation and checkpoint; setup, once a configuration, is in
``setup_seconds``; what fills caches is not counted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmtune import records
from mmtune.space.drawing import assign, draw
from mmtune.spec.search_spec import SearchSpec, load_spec
from trainables.clock import PARTS
from trainables.files import replacing

TABLE = Path(__file__).parent / "table"
WEIGHTS = {"fusion": 300, "text": 100, "image": 100, "mvae": 100, "hybrid_vae": 100, "lit_tirg": 60}
WEIGHTS |= dict.fromkeys(("clip", "flava", "vilt", "vilbert", "mmbt", "mmbv"), 20)
_METRICS = (
    "val_accuracy", "val_loss", "val_macro_f1", "train_loss", "train_accuracy",
    "device_seconds", *PARTS, "peak_memory_gib",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Example: nice -n 19 python benchmarks/record_table.py --minutes 30",
    )
    parser.add_argument("--out", type=Path, default=TABLE / "trainings.parquet", help="goes on where it stands")
    parser.add_argument("--minutes", type=float, default=120, help="no training begins after so many")
    parser.add_argument("--workers", type=int, default=2, help="trainings at the same time")
    parser.add_argument("--most", type=int, default=sum(WEIGHTS.values()), help="configurations in all")
    args = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    rows, end = read_rows(args.out), time.monotonic() + 60 * args.minutes
    known = {row["number"] for row in rows}
    missing = [turn for turn in enumerate(islice(turns(), args.most)) if turn[0] not in known]
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(train_one, *turn) for turn in missing[: args.workers]}
        missing = missing[args.workers :]
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                rows.append(row := future.result())
                rows.sort(key=lambda row: row["number"])
                with replacing(args.out) as temporary:
                    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), temporary, compression="zstd")
                best, family = max(row["val_accuracy"], default=float("nan")), json.loads(row["params"])["family"]
                seconds = sum(row["device_seconds"])
                print(f"{row['number']:4} {family:<11}{row['state']:<9}{best:.3f} {seconds:7.1f} s", flush=True)
                if missing and time.monotonic() < end:
                    running.add(pool.submit(train_one, *missing.pop(0)))
    print(f"{args.out}: {len(rows)} of {args.most} configurations")


_SCHEMA = pa.schema([
    ("number", pa.int32()), ("params", pa.string()), ("state", pa.string()), ("error", pa.string()),
    ("setup_seconds", pa.float32()), *((name, pa.list_(pa.float32())) for name in _METRICS),
])  # fmt: skip


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What is recorded so far."""
    return pq.read_table(path).to_pylist() if path.exists() else []


def turns() -> Iterator[str]:
    """Families by weight, each as evenly spread as can be, without an end."""
    credit = dict.fromkeys(WEIGHTS, 0.0)
    total = sum(WEIGHTS.values())
    while True:
        for family, weight in WEIGHTS.items():
            credit[family] += weight / total
        family = max(credit, key=lambda name: credit[name])
        credit[family] -= 1
        yield family


def params_of(spec: SearchSpec, number: int, family: str) -> dict[str, Any]:
    """Configuration ``number``, at random within its family."""
    rng = random.Random(f"table {number}")
    return assign(
        spec.space,
        lambda name, domain, high: family if name == "family#0" else draw(domain, high, rng),
    )


def train_one(number: int, family: str) -> dict[str, Any]:
    """Trains a configuration to its end on one thread, and what came of it."""
    import torch

    from trainables.clock import Clock
    from trainables.data.open import open_data
    from trainables.errors import OutOfMemoryError
    from trainables.loop import fit, setup
    from trainables.ranks import Ranks, best_device

    torch.set_num_threads(1)
    spec = load_spec(TABLE / "space.yaml")
    params = params_of(spec, number, family)
    reports: list[dict[str, Any]] = []
    row: dict[str, Any] = {"number": number, "params": json.dumps(params), "state": records.COMPLETE, "error": None}
    row["setup_seconds"] = 0.0
    config = spec.trial_config(params)
    open_data(config)  # caches are filled before the clock starts
    try:
        with tempfile.TemporaryDirectory() as folder:
            clock = Clock(time.process_time)
            state = setup(config, folder=Path(folder), ranks=Ranks(device=best_device("cpu")))
            state.clock = clock
            fit(state, report=lambda report: bool(reports.append(report)))
    except OutOfMemoryError as error:
        row |= {"state": records.INFEASIBLE, "error": str(error)}
    except Exception as error:  # what a study would call FAILED
        row |= {"state": records.FAILED, "error": f"{type(error).__name__}: {error}"}
    for report in reports:
        row["setup_seconds"] += report["setup_seconds"]
        report["device_seconds"] = sum(report[part] for part in PARTS)
    return row | {name: [report.get(name) for report in reports] for name in _METRICS}


if __name__ == "__main__":
    main()
