"""What an exported model's folder has beside a trained one's: the files of its encoders, and the checksums of all.

export.json                  see :class:`Manifest`
encoders/<modality>/         the files of a pretrained encoder, under the first modality that it reads
encoders/drawn.safetensors   the tensors of locked encoders without weights, as they were drawn
README.md                    the model card, yours to change: not among the checksums
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from trainables.files import checksum, write_atomic

MANIFEST, CARD, ENCODERS = "export.json", "README.md", "encoders"
DRAWN = f"{ENCODERS}/drawn.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What was exported.

    Attributes:
        encoders: by name, where in the folder its files are; of those with weights alone.
        files: sha256 by path in the folder.
    """

    encoders: Mapping[str, str]
    files: Mapping[str, str]


def write_manifest(folder: Path, *, encoders: Mapping[str, str]) -> None:
    """Writes ``export.json`` about all files that are in the folder now, but for the card."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in paths]
    files = {name: checksum(folder / name) for name in names if name not in (CARD, MANIFEST)}
    text = json.dumps({"format": FORMAT, **asdict(Manifest(encoders, files))}, indent=1, ensure_ascii=False)
    write_atomic(folder / MANIFEST, text + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """What ``export.json`` says; None where there is none: a folder that was trained here.

    Raises:
        ValueError: it is no such file, or of a newer version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] > FORMAT:
            raise ValueError(f"{path}: format {values['format']} is of a newer mmtune; this one reads {FORMAT}")
        return Manifest(dict(values["encoders"]), dict(values["files"]))
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: does not describe an exported model ({error})") from None


def check_files(folder: Path, manifest: Manifest) -> None:
    """Reads every file once.

    Raises:
        ValueError: naming those that are missing or have other bytes than were exported.
    """
    missing = [name for name in manifest.files if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder}: is not whole; missing: {_some(missing)}")
    damaged = [name for name, told in manifest.files.items() if checksum(folder / name) != told]
    if damaged:
        raise ValueError(f"{folder}: damaged, with other bytes than were exported: {_some(damaged)}")


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{rest}"
