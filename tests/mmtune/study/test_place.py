"""A study goes on wherever its data lie, but on the same alone; nothing is written before that is clear."""

from __future__ import annotations

import shutil

import pytest
import yaml

from mmtune.records import read_json, write_json
from mmtune.spec.search_spec import load_spec
from mmtune.study.create import create_study
from mmtune.study.place import settle_data
from trainables.data.cache.identity import dataset_key
from trainables.data.reading.dataset import load_table

SPEC = load_spec("study: s\nfamily: text\ndataset: table\nbudget: {trials: 1}\n")
YAML = "files: rows.csv\ntext: words\nlabels: {label: {column: label, kind: multiclass}}\n"


@pytest.fixture
def data(tmp_path):
    for function in (load_table, dataset_key):
        function.cache_clear()
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "table.yaml").write_text(YAML)
    (folder / "rows.csv").write_text("words,label\n" + "".join(f"row {row},{'ab'[row % 2]}\n" for row in range(30)))
    return folder


@pytest.fixture
def study(tmp_path, data):
    folder = create_study(SPEC, storage=tmp_path / "studies", data_dir=str(data))
    settle_data(folder, SPEC, info := read_json(folder.info), None)
    write_json(folder.info, info)
    folder.trial("t0000").mkdir(parents=True)
    (folder.trial("t0000") / "config.yaml").write_text(yaml.safe_dump({"data_dir": str(data), "epochs": 3}))
    return folder


def test_moved_data_are_followed(study, data, tmp_path):
    now = tmp_path / "now"
    shutil.move(data, now)
    with pytest.raises(ValueError, match=f"{data}: the study's data are not there; .*mmtune resume .* --data DIR"):
        settle_data(study, SPEC, read_json(study.info), None)
    settle_data(study, SPEC, read_json(study.info), str(now))
    assert read_json(study.info)["data_dir"] == str(now)
    config = yaml.safe_load((study.trial("t0000") / "config.yaml").read_text())
    assert config == {"data_dir": str(now), "epochs": 3}
    before = study.info.read_bytes()
    settle_data(study, SPEC, read_json(study.info), None)
    assert study.info.read_bytes() == before


def test_a_move_that_was_cut_short_is_done_again(study, data, tmp_path, monkeypatch):
    now = tmp_path / "now"
    shutil.move(data, now)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mmtune.records.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        settle_data(study, SPEC, read_json(study.info), str(now))
    assert read_json(study.info)["data_dir"] == str(data)
    settle_data(study, SPEC, read_json(study.info), str(now))
    assert read_json(study.info)["data_dir"] == str(now)


def test_other_data_are_refused_and_nothing_is_written(study, data, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(data, other)
    (other / "rows.csv").write_text((data / "rows.csv").read_text() + "one more,a\n")
    before = study.info.read_bytes(), (study.trial("t0000") / "config.yaml").read_bytes()
    for where, message in ((other, "different: rows.csv"), (tmp_path / "nowhere", "no such folder")):
        with pytest.raises(ValueError, match=message):
            settle_data(study, SPEC, read_json(study.info), str(where))
    (data / "rows.csv").write_text((other / "rows.csv").read_text())  # changed where they lay
    for function in (load_table, dataset_key):
        function.cache_clear()
    with pytest.raises(ValueError, match=f"{data}: not the data that the study began with; different: rows.csv"):
        settle_data(study, SPEC, read_json(study.info), None)
    assert before == (study.info.read_bytes(), (study.trial("t0000") / "config.yaml").read_bytes())


def test_embedded_data_have_no_folder(tmp_path, data):
    spec = load_spec("study: e\nfamily: text\ndataset: openclipart\nbudget: {trials: 1}\n")
    folder = create_study(spec, storage=tmp_path)
    settle_data(folder, spec, info := read_json(folder.info), None)
    assert list(info["data"]["files"]) == ["openclipart64.parquet"]
    with pytest.raises(ValueError, match="openclipart is embedded and reads no folder"):
        settle_data(folder, spec, read_json(folder.info), str(data))


def test_other_regions_of_a_detector_are_other_data(tmp_path, data):
    """Those that any trial could read, and none where none reads any."""
    for name in ("one.tsv", "two.tsv"):
        (tmp_path / name).write_text(f"{name}\t1\t1\t0\t\t\n")
    kinds = {"family": "vilbert", "dataset": "table", "budget": {"trials": 1}, "study": "r"}
    files = {"type": "categorical", "choices": [str(tmp_path / name) for name in ("one.tsv", "two.tsv")]}
    fixed = {"model.text_encoder": "tiny-bert", "model.regions": "detector"}
    spec = load_spec(yaml.safe_dump({**kinds, "fixed": fixed, "space": {"model.region_file": files}}))
    folder = create_study(spec, storage=tmp_path / "studies", data_dir=str(data))
    settle_data(folder, spec, info := read_json(folder.info), None)
    write_json(folder.info, info)
    settle_data(folder, spec, read_json(folder.info), None)
    (tmp_path / "two.tsv").write_text("another\t1\t1\t0\t\t\n")
    with pytest.raises(ValueError, match=r"not the data that the study began with; different: /.*two\.tsv$"):
        settle_data(folder, spec, read_json(folder.info), None)
    assert set(info["data"]["regions"]) == set(files["choices"])
