"""What a study keeps of the place and the content of its data: it goes on wherever they lie, but on the same alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.spec.search_spec import SearchSpec
from mmtune.study.checks import check_data, region_files, study_dataset
from trainables.files import write_atomic


def settle_data(folder: StudyFolder, spec: SearchSpec, info: dict[str, Any], data_dir: str | None) -> None:
    """Notes what is in a study's data when it begins, refuses any other later, and follows them to ``data_dir``.

    Args:
        folder: the study, whose lock the caller holds.
        spec: what it searches.
        info: study.json; what is in the data is noted here, and written with the session that begins.
        data_dir: where the data lie now; None is where they lay.

    Raises:
        ValueError: there are no such data, or they are not those that the study began with.
    """
    from trainables.data.cache.identity import REGIONS, dataset_key, differences
    from trainables.data.cache.regions import regions_digest

    before = info["data_dir"]
    now = before if data_dir is None else str(Path(data_dir).expanduser().resolve())
    if data_dir is None and before is not None and not Path(before).is_dir():
        raise ValueError(
            f"{before}: the study's data are not there; where they are now: mmtune resume {folder.root} --data DIR"
        )
    check_data(spec, now)
    key, known = dataset_key(study_dataset(spec, now)), info.get("data")
    regions = {name: regions_digest(name) for name in region_files(spec)}
    key = {**key, REGIONS: regions} if regions else key
    if known is not None and known != key:
        others = ", ".join(differences(known, key)) or f"dataset {known['dataset']}"
        raise ValueError(f"{now or spec.dataset}: not the data that the study began with; different: {others}")
    info |= {"data_dir": now, "data": key}
    if now != before:
        _rewrite_configs(folder, now)
        records.write_json(folder.info, info)


def _rewrite_configs(folder: StudyFolder, data_dir: str | None) -> None:
    """Has the trials' configs name the new folder: they are what a trial is trained again or tested by."""
    for path in sorted(folder.root.glob("trials/*/config.yaml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        if config.get("data_dir") != data_dir:
            write_atomic(path, yaml.safe_dump({**config, "data_dir": data_dir}, sort_keys=False))
