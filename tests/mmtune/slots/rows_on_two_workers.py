"""Predicts a text file on a Ray cluster of two CPUs and here: python ... WORK, a folder for the model and all files."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from mmtune.slots.cluster import ENVIRONMENT

os.environ.update(ENVIRONMENT)

import pyarrow  # noqa: E402
import pyarrow.parquet  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402 (Ray reads its settings on import)

from mmtune.models.newdata import find_data  # noqa: E402
from mmtune.models.predict import predict_data, prediction_table  # noqa: E402
from mmtune.models.reference import ModelRef  # noqa: E402
from mmtune.slots.rows import over_cluster  # noqa: E402
from trainables.config import TrialConfig  # noqa: E402
from trainables.loop import train  # noqa: E402
from trainables.trained import load_trained  # noqa: E402

ROWS = 9_000  # three tables


def main() -> None:
    work = Path(sys.argv[1])
    tiny: dict[str, Any] = {"family": "text", "dataset": "openclipart", "epochs": 1, "max_train_rows": 64}
    tiny |= {"max_text_len": 8, "model": {"text_encoder": "tiny-bert", "lock_text": False}}
    train(TrialConfig(**tiny), folder=work / "model")
    lines = [f"{at},a red rose number {at}" for at in range(ROWS)]
    lines[5_000] = "one,two,three"
    data = work / "new.csv"
    data.write_text("\n".join(["id,text", *lines]) + "\n")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    steps: list[int] = []
    for name, address in (("here", None), ("there", cluster.address)):
        predict_data(
            ModelRef(work / "model"), str(data), out=work / f"{name}.parquet", address=address,
            progress=lambda _, done, __: steps.append(done),
        )  # fmt: skip
    trained = load_trained(work / "model")
    rows = find_data(trained, str(data)).rows

    def with_process(trained: Any, answered: Any) -> pyarrow.Table:
        table = prediction_table(trained, answered)
        return table.append_column("process", pyarrow.array([os.getpid()] * len(table)))

    found = [*over_cluster(rows, trained.folder, with_process, size=500, address=cluster.address)]
    processes = {number for table in found for number in table["process"].to_pylist()}
    ids = [id for table in found for id in table["id"].to_pylist()]
    print(json.dumps({"processes": len(processes), "ids": ids, "steps": steps}))
    cluster.shutdown()


if __name__ == "__main__":
    main()
