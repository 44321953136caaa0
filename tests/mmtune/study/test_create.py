"""A new study folder, and what keeps it from being made."""

import pytest

from mmtune.records import open_study, read_json
from mmtune.spec.search_spec import load_spec
from mmtune.study.create import create_study, new_folder

SPEC = load_spec("study: s\nfamily: text\ndataset: openclipart\nfixed: {seed: 5}\nbudget: {trials: 2}\n")


def test_the_folder_says_what_will_run(tmp_path):
    folder = create_study(SPEC, storage=tmp_path / "new", data_dir=str(tmp_path))
    assert open_study(folder.root) == folder and folder.root == tmp_path / "new" / "s"
    assert load_spec(folder.spec).budget == SPEC.budget
    info = read_json(folder.info)
    assert info["seeds"] == {"sampler": 1, "trial": 5}
    assert info["objectives"] == [{"metric": "val_accuracy", "mode": "max"}]
    assert (info["budget"]["trials"], info["data_dir"], info["sessions"]) == (2, str(tmp_path), [])
    assert info["versions"]["torch"] is not None
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["s"]  # no temporary folder is left


def test_what_is_there_stays(tmp_path):
    (tmp_path / "s").mkdir()  # empty: may be taken
    folder = create_study(SPEC, storage=tmp_path)
    with pytest.raises(ValueError, match=f"exists in {tmp_path}; go on with it: mmtune resume {folder.root}"):
        create_study(SPEC, storage=tmp_path)
    folder.info.unlink()
    with pytest.raises(ValueError, match="it is not a study, or choose another --name"):
        new_folder(SPEC, tmp_path)


def test_storage_that_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(ValueError, match=f"--storage {tmp_path}/x/y: nothing can be made in {tmp_path}"):
        new_folder(SPEC, f"{tmp_path}/x/y")
