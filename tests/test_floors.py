"""Who may import whom (CONTRIBUTING.md#floors): read from the source, and seen in clean processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import mmtune

ROOT = Path(__file__).parents[1]
PACKAGES = ("mmtune", "trainables", "analysis")
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
KNOW_RAY = ("mmtune.slots", "mmtune.study", "mmtune.search")
KNOW_OPTUNA = ("mmtune.search", "mmtune.space")
LEAVES = tuple(  # analysis may read them too
    f"trainables.{name}"
    for name in (
        *("clock", "dominance", "exported", "files", "messages", "metrics", "modelfolder", "ranking", "task"),
        "topk",
    )
)
FAMILIES_MAY = {
    f"trainables.{name}" for name in ("layers", "batch", "config", "freezing", "losses", "encoders", "task")
}
FLOORS = (  # of trainables, from the ground: a module imports from its own floor and from those below
    ("clock", "devices", "dominance", "errors", "exported", "files", "imagefit", "messages", "metrics")
    + ("modelfolder", "ranking", "seeds", "task", "topk", "yamltree", "data.reading.scale"),
    ("config",),
    ("batch",),
    ("encoders", "layers", "augment", "losses", "freezing"),
    ("families",),
    ("data.padding", "data.reading", "data.formats"),
    ("data.cache",),
    ("data",),
    ("",),  # the recipe
)
LOOKS_UP = ("trainables.config", "trainables.families")  # a config checks its model by its family's own Config


def imports(tree: ast.AST, package: str) -> set[str]:
    """The dotted names that a syntax tree imports, ``from a import b`` as both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                found.add(str(node.args[0].value))
    return found


def of(name: str) -> set[str]:
    """What a module imports anywhere, inside functions too."""
    is_package = SOURCES[name].name == "__init__.py"
    package = name if is_package else name.rpartition(".")[0]
    return imports(ast.parse(SOURCES[name].read_text(encoding="utf-8")), package)


def at_import(name: str) -> set[str]:
    """What a module imports when it is imported itself."""
    tree = ast.parse(SOURCES[name].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return imports(tree, name.rpartition(".")[0])


def below(names: set[str], *tops: str) -> set[str]:
    """Those of ``names`` that are one of ``tops`` or inside it."""
    return {name for name in names if any(name == top or name.startswith(f"{top}.") for top in tops)}


def modules(package: str) -> list[str]:
    return [name for name in SOURCES if name == package or name.startswith(f"{package}.")]


def test_imports_are_seen():
    code = "import a.b\nfrom c import d\nfrom . import e\nfrom ..f import g\nimport_module('h')\ndef x():\n import i"
    assert imports(ast.parse(code), "p.q") == {"a.b", "c", "c.d", "p.q", "p.q.e", "p.f", "p.f.g", "h", "i"}
    assert {"mmtune.study.session", "trainables.families.fusion", "analysis.best"} < set(SOURCES)
    assert below(of("mmtune.slots.pool"), "ray") and not below(at_import("mmtune.slots.cluster"), "ray")


@pytest.mark.parametrize("name", modules("trainables"))
def test_trainables_know_nothing_above_them(name):
    assert not below(of(name), "ray", "optuna", "mmtune", "analysis")


def inside(name: str) -> set[str]:
    """The modules of trainables that one of them imports."""
    return {other for other in of(name) & set(SOURCES) if below({other}, "trainables")}


def floor(name: str) -> int:
    """The floor that names most of a module's path."""
    part = name.removeprefix("trainables").removeprefix(".")
    tops = {top: at for at, tops in enumerate(FLOORS) for top in tops}
    return tops[max((top for top in tops if not top or below({part}, top)), key=len)]


@pytest.mark.parametrize("name", modules("trainables"))
def test_trainables_have_floors(name):
    assert not {other for other in inside(name) if floor(other) > floor(name) and (name, other) != LOOKS_UP}


@pytest.mark.slow
def test_no_module_imports_itself_in_a_circle():
    arrows = {name: {other for other in of(name) & set(SOURCES) if other != name} for name in SOURCES}
    packages = {name for name in SOURCES if SOURCES[name].name == "__init__.py"}  # from a import b does not look into a
    list(TopologicalSorter({name: others - packages for name, others in arrows.items()}).static_order())


@pytest.mark.slow
@pytest.mark.parametrize("name", modules("analysis"))
def test_analysis_reads_study_folders(name):
    names = of(name)
    assert below(names, "mmtune") - {"mmtune"} == below(names, "mmtune.records")
    assert not below(at_import(name), "ray", "optuna", "torch", "transformers")
    assert below(at_import(name), "trainables") - {"trainables"} == below(at_import(name), *LEAVES)
    if not name.startswith("analysis.inspect"):
        assert not below(names, "torch", "transformers", "torchvision")
        assert below(names, "trainables") - {"trainables"} == below(names, *LEAVES)


@pytest.mark.parametrize("name", modules("mmtune"))
def test_few_modules_know_ray_and_optuna(name):
    names = of(name)
    assert below({name}, *KNOW_RAY) or not below(names, "ray")
    assert below({name}, *KNOW_OPTUNA) or not below(names, "optuna")


@pytest.mark.parametrize("name", [name for name in modules("trainables.families") if name != "trainables.families"])
def test_families_stand_alone(name):
    names = below(of(name), "trainables") - {"trainables"}
    assert names == below(names, *FAMILIES_MAY)


@pytest.mark.parametrize("name", [*LEAVES, "mmtune.info", "mmtune.records"])
def test_leaves_need_nothing_else(name):
    names = of(name)
    assert below(names, "trainables") - {"trainables"} == below(names, *LEAVES)
    others = {"numpy"} if name.removeprefix("trainables.") in ("dominance", "metrics", "ranking", "topk") else set()
    names -= {"mmtune", "mmtune.info", "mmtune.info.read_info"} if name == "mmtune.records" else set()
    assert {name.split(".")[0] for name in names} <= {*sys.stdlib_module_names, "trainables"} | others


def loaded(*names: str) -> set[str]:
    """Top-level packages in a new process after importing ``names``."""
    code = f"import sys, {', '.join(names)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "names, never",
    [
        (modules("trainables"), {"ray", "optuna", "mmtune", "analysis"}),
        (modules("analysis"), {"ray", "optuna", "torch", "transformers"}),
        ([*modules("mmtune.spec"), *modules("mmtune.space"),
          *(name for name in modules("mmtune.cli") if name != "mmtune.cli.__main__"),
          "mmtune.api", "mmtune.study.study", "mmtune.study.session", "mmtune.study.create", "mmtune.study.single",
          "mmtune.slots.cluster", "mmtune.slots.requirements"],
         {"ray", "optuna", "torch", "transformers", "pandas", "analysis"}),
    ],
    ids=["trainables", "analysis", "mmtune"],
)  # fmt: skip
def test_a_clean_process(names, never):
    assert not loaded(*names) & never


def test_importing_mmtune_imports_nothing_else():
    assert loaded("mmtune") <= {*loaded("sys"), "mmtune"}


def test_importing_mmtune_is_instant():
    code = "import time; began = time.perf_counter(); import mmtune; print(time.perf_counter() - began)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 0.1


@pytest.mark.slow
def test_what_mmtune_offers_is_typed_and_comes_when_it_is_asked_for():
    """Type checkers and editors read the imports of __init__; at run time each name is imported on first use."""
    tree = ast.parse(SOURCES["mmtune"].read_text(encoding="utf-8"))
    typed = {
        alias.name: str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module not in ("__future__", "importlib")
        for alias in node.names
    }
    assert {"run", "resume", "open", "Study"} <= typed.keys() <= {*dir(mmtune)}
    for name, module in typed.items():
        assert getattr(mmtune, name) is getattr(import_module(module), name)
    with pytest.raises(AttributeError, match="no attribute 'rnu'"):
        getattr(mmtune, "rnu")  # noqa: B009
    assert not loaded("mmtune", "mmtune.api") & {"ray", "optuna", "torch", "pandas", "matplotlib", "analysis"}
