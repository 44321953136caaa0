"""The blocks of docs/python.md marked `python test` run as written, in order, in one process and a clean folder."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
RUN = """
import sys
lines, scope = open(sys.argv[1]).read(), {"__name__": "__main__"}
for number, block in enumerate(lines.split("\\0"), start=1):
    exec(compile(block, f"block {number}", "exec"), scope)
"""


@pytest.mark.slow
def test_the_page_runs_as_written(tmp_path):
    blocks = re.findall(r"^```python test\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    (tmp_path / "blocks").write_text("\0".join(blocks))
    done = subprocess.run(
        [sys.executable, "-c", RUN, "blocks"], cwd=tmp_path, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert done.stderr == "" and "did you mean 'trials'?" in done.stdout
    assert (tmp_path / "pareto.png").stat().st_size > 10_000 and (tmp_path / "curves.pdf").stat().st_size > 5_000
