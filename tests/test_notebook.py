"""docs/results.ipynb runs as written in a clean folder; what it keeps of its last run is small and of no machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "results.ipynb"
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=1500, kernel_name="python3", resources={"metadata": {"path": "."}}).execute()
nbformat.write(notebook, "run.ipynb")
"""


def outputs(path: Path) -> list[list[dict]]:
    """What each cell of code showed."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]


def kinds(shown: list[dict]) -> set[str]:
    """The richest form of each output, and what went to a stream."""
    forms = ("image/png", "text/html", "text/plain")
    return {next((form for form in forms if form in part.get("data", {})), part.get("name", "")) for part in shown}


def test_what_is_kept_is_small_and_of_no_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 300_000
    assert not re.findall(r"(?<![\w/+.])/(?:home|root|tmp|Users|mnt|opt)/", text) and "Traceback" not in text


@pytest.mark.slow
def test_it_runs_as_written(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(NOTEBOOK)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shown, kept = outputs(tmp_path / "run.ipynb"), outputs(NOTEBOOK)
    assert [kinds(parts) for parts in shown] == [kinds(parts) for parts in kept]  # and nothing on stderr
    assert sum("image/png" in kinds(parts) for parts in shown) >= 3 and "text/html" in kinds(shown[0])
    assert (tmp_path / "studies" / "three-families" / "trials.csv").is_file()
