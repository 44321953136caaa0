"""The README's blocks marked `bash test` run as written, in order, in one clean folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def blocks():
    return re.findall(r"^```bash test\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # all its blocks; each has a limit of its own
def test_the_readme_runs_as_written(tmp_path):
    found = blocks()
    assert len(found) >= 6
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for block in found:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, env=environment,
            capture_output=True, text=True, timeout=1500, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert (tmp_path / "studies" / "smoke-fusion" / "report" / "pareto.png").stat().st_size > 10_000
    assert (tmp_path / "trained" / "best" / "test.json").exists()


def test_every_file_the_readme_links_to_exists():
    text = README.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    for link in links:
        assert (README.parent / link).exists(), link
