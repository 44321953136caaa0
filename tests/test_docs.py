"""The documents against the code: what is cited exists, and what exists is described."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

from mmtune.records import COSTS
from mmtune.search.samplers import SAMPLERS
from mmtune.search.schedulers import SCHEDULERS
from trainables.data.formats import DATASETS
from trainables.families import FAMILIES, family_module
from trainables.metrics import METRICS

ROOT = Path(__file__).parents[1]
FOLDERS = ("mmtune", "trainables", "analysis", "tests", "benchmarks", "scripts", "search_spaces", "docs")
TEXTS = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*"))
    if path.is_file() and not path.is_symlink() and (path.suffix in (".py", ".md", ".yaml") or path.suffix == "")
]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
METHODS = ROOT / "docs" / "methods.md"


@lru_cache
def anchors(page: Path) -> list[str]:
    """Explicit ones, and those that GitHub gives headings."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    explicit = re.findall(r'<a id="([^"]+)">', text)
    assert len(set(explicit)) == len(explicit), f"{page.name}: an anchor twice"
    return [*explicit, *slugs]


def test_every_cited_anchor_exists():
    cited = {
        (page, anchor, path)
        for path in TEXTS
        for page, anchor in re.findall(r"\b(docs/\w+\.md|CONTRIBUTING\.md)#([\w-]+)", path.read_text(encoding="utf-8"))
    }
    assert len(cited) > 40
    assert not [cite for cite in cited if cite[1] not in anchors(ROOT / cite[0])]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        where = page if target == "" else page.parent / target
        assert where.exists(), target
        assert not anchor or anchor in anchors(where), f"{target}#{anchor}"


def test_every_file_that_a_page_names_exists():
    """Paths below a folder of the repository; bare names of Python files anywhere in it."""
    below = re.compile(rf"(?<![\w/.<-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w")
    names = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    for page in (page for page in PAGES if page.name != "CHANGELOG.md"):
        text = re.sub(r"\S*(?:NAME|FAMILY|<)\S*", "", page.read_text(encoding="utf-8"))  # stand for one of your own
        missing = [name for name in below.findall(text) if not (ROOT / name).exists()]
        missing += [name for name in re.findall(r"(?<![\w/])(\w+\.py)\b", text) if name not in names]
        assert not missing, f"{page.name}: {missing}"


def test_the_readme_has_every_room_in_its_tree():
    block = re.search(r"## The tree\n\n```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    above: list[str] = []
    shown = set()
    for line in block[1].splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        above = [*above[:depth], name]
        shown.add("".join(above))
        assert (ROOT / "".join(above)).exists() and len(line) <= 120, line
    packages = (
        path.parent for name in ("mmtune", "trainables", "analysis") for path in (ROOT / name).rglob("__init__.py")
    )
    rooms = {f"{path.relative_to(ROOT)}/" for path in packages}
    rooms |= {str(path.relative_to(ROOT)) for path in (ROOT / "trainables").glob("[a-z]*.py")}
    assert rooms <= shown, f"not in the README's tree: {sorted(rooms - shown)}"


def test_methods_describe_what_there_is():
    known = set(anchors(METHODS))
    assert {*FAMILIES, *METRICS, *SAMPLERS, *SCHEDULERS} <= known
    text = METHODS.read_text(encoding="utf-8")
    terms = {"supervised", "consistency", *(term for name in FAMILIES for term in family_module(name).LOSS_TERMS)}
    for name in {*terms, *COSTS}:
        assert f"`{name}`" in text, name
    for name in terms:
        assert name in known or name.rpartition("_")[0] in known, name


def test_every_family_and_dataset_has_its_place():
    families = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")
    assert not [name for name in FAMILIES if f"\n| [`{name}`](methods.md#{name}) |" not in families]
    datasets = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert not [name for name in DATASETS if f"\n### `{name}`\n" not in datasets]


def texts_in(tree: ast.AST) -> list[str]:
    """Strings of a source file, what they format left out as a null character."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
            found.append("".join(map(str, parts)))
    return found


@pytest.mark.slow
def test_messages_of_the_trouble_page_are_in_the_sources():
    """A heading in backticks is a message; its ... stand for what the program fills in."""
    page = (ROOT / "docs" / "trouble.md").read_text(encoding="utf-8")
    messages = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    assert len(messages) > 35
    sources = [path for folder in ("mmtune", "trainables", "analysis") for path in (ROOT / folder).rglob("*.py")]
    known = [text for path in sources for text in texts_in(ast.parse(path.read_text(encoding="utf-8")))]
    for message in messages:
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in message.split("...")), re.DOTALL)
        assert any(pattern.search(text) for text in known), message
