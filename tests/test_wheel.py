"""What people install: a wheel with the search files and the embedded data in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BACKEND = "import sys; from setuptools.build_meta import *; print(globals()['build_' + sys.argv[1]](sys.argv[2]))"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy: building writes into the source folder."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("mmtune", "trainables", "analysis", "search_spaces"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    (copy / "README.md").write_text("The long description.\n")
    return copy


def build(kind: str, source: Path, out: Path) -> Path:
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BACKEND, kind, str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


def in_wheel(path: Path, folder: Path) -> list[str]:
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(folder)
        return wheel.namelist()


@pytest.mark.slow
@pytest.mark.parametrize("through_sdist", [False, True], ids=["checkout", "sdist"])
def test_the_wheel_has_everything(checkout, tmp_path, through_sdist):
    source = checkout
    if through_sdist:
        (tmp_path / "source").mkdir()
        archive = build("sdist", checkout, tmp_path / "sdist")
        subprocess.run(["tar", "-xzf", archive, "-C", tmp_path / "source"], check=True)
        (source,) = (tmp_path / "source").iterdir()
    names = in_wheel(build("wheel", source, tmp_path / "out"), tmp_path / "installed")
    shipped = {path.relative_to(ROOT).as_posix() for path in (ROOT / "search_spaces").rglob("*.yaml")}
    assert {f"mmtune/{name}" for name in shipped} == {name for name in names if name.endswith(".yaml")}
    others = ["mmtune/search_spaces/schema.json", "trainables/data/embedded/NOTICE"]
    others += [f"analysis/page/report.{kind}" for kind in ("html", "css", "js")]
    others.append("analysis/page/published.csv")
    others += [f"{name}/py.typed" for name in ("mmtune", "trainables", "analysis")]  # for type checkers
    assert {"trainables/data/embedded/openclipart64.parquet", *others} <= {*names}
    packages = {name.split("/")[0] for name in names}
    assert {name for name in packages if not name.endswith(".dist-info")} == {"mmtune", "trainables", "analysis"}

    code = (
        "import mmtune; from mmtune.spec.search_spec import load_spec; print(mmtune.__file__)\n"
        "from mmtune.spec.shipped import find_search_file\n"
        "file = find_search_file('demo/openclipart'); print(file); print(load_spec(file).study)"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    package = (tmp_path / "installed" / "mmtune").resolve()
    found = [str(package / "__init__.py"), str(package / "search_spaces/demo/openclipart.yaml"), "demo-openclipart"]
    assert done.stdout.splitlines() == found, done.stderr


@pytest.mark.slow
def test_an_editable_install_maps_the_three_packages(checkout, tmp_path):
    in_wheel(build("editable", checkout, tmp_path / "out"), tmp_path / "installed")
    (finder,) = (tmp_path / "installed").glob("__editable__*finder.py")
    values: dict[str, dict[str, str]] = {}
    exec("\n".join(line for line in finder.read_text().splitlines() if line.startswith("MAPPING")), values)
    assert values["MAPPING"] == {name: str(checkout / name) for name in ("mmtune", "trainables", "analysis")}
