"""A link out of a data folder is named and refused; within it, and to the folder itself, links are followed."""

import pytest

from trainables.data.reading.dataset import DatasetRef, load_table

TABLE = """\
files: rows.csv
text: text
image: picture
labels: {class: {column: label, kind: multiclass}}
split: split
"""
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    (data / "pictures").mkdir(parents=True)
    (data / "table.yaml").write_text(TABLE)
    splits = ["train", "val"] * 6
    lines = [f"{n},a text {n},pictures/{n % 3}.png,{'ab'[n // 2 % 2]},{split}" for n, split in enumerate(splits)]
    (data / "rows.csv").write_text("\n".join(["id,text,picture,label,split", *lines]) + "\n")
    for number in range(3):
        (data / "pictures" / f"{number}.png").write_bytes(PNG)
    return data


def out_of(folder, what):
    """Moves a file or folder of the data out of them, a link in its place."""
    outside = folder.parent / "elsewhere" / what
    outside.parent.mkdir(parents=True, exist_ok=True)
    (folder / what).rename(outside)
    (folder / what).symlink_to(outside)
    return outside


@pytest.mark.parametrize("what", ["rows.csv", "table.yaml", "pictures/1.png", "pictures"])
def test_what_leads_out_is_refused_by_name(what, folder, monkeypatch):
    outside = out_of(folder, what)
    with pytest.raises(ValueError) as caught:
        load_table(DatasetRef("table", str(folder)))
    assert str(caught.value).startswith(f"{folder / what}")
    assert f": leads out of the data folder, to {outside}" in str(caught.value)
    assert str(caught.value).endswith("set MMTUNE_LINKS=follow") and "\n" not in str(caught.value)
    monkeypatch.setenv("MMTUNE_LINKS", "follow")
    assert len(load_table(DatasetRef("table", str(folder))).ids) == 12


def test_links_within_it_and_to_it_are_followed(folder, tmp_path):
    (folder / "pictures" / "0.png").unlink()
    (folder / "pictures" / "0.png").symlink_to("1.png")
    (tmp_path / "linked").symlink_to(folder)
    for data in (folder, tmp_path / "linked"):
        assert len(load_table(DatasetRef("table", str(data))).ids) == 12


def test_a_setting_that_there_is_not_is_refused(folder, monkeypatch):
    monkeypatch.setenv("MMTUNE_LINKS", "yes")
    with pytest.raises(ValueError, match="MMTUNE_LINKS: 'yes' is unknown; write follow, or unset it"):
        load_table(DatasetRef("table", str(folder)))
