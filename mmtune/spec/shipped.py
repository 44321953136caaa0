"""Search files by name: the ones that come with mmtune. Reads no file, so that TAB and lists are quick."""

from __future__ import annotations

from pathlib import Path

from trainables.messages import did_you_mean


def shipped_search_files() -> dict[str, Path]:
    """The search files that come with mmtune, by name: ``{"mmbv/moviescope": Path(...), ...}``."""
    root = (Path(__file__).parents[1] / "search_spaces").resolve()  # in a checkout a link to the folder at the top
    files = sorted(root.rglob("*.yaml"))
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in files}


def find_search_file(name_or_path: str | Path) -> Path:
    """The search file at a path, or the shipped one of that name.

    Raises:
        ValueError: there is neither.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    shipped = shipped_search_files()
    name = path.as_posix().removesuffix(".yaml")
    if name in shipped:
        return shipped[name]
    same_end = [known for known in shipped if known.split("/")[-1] == name]
    hint = f", did you mean '{same_end[0]}'?" if same_end else did_you_mean(name, shipped) or "."
    raise ValueError(
        f"'{name_or_path}' is neither a file nor a search file that comes with mmtune{hint} "
        "List them with: mmtune list spaces"
    )
