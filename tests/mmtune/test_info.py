"""study.json as somebody left it: what is odd about it is said, with the file's name."""

import json

import pytest

from mmtune.info import FORMAT, read_info
from mmtune.records import open_study

WHOLE = {
    "format": FORMAT, "study": "s", "budget": {"trials": 3}, "sessions": [{"seconds": 1.5}], "retried": ["t0001"],
    "objectives": [{"metric": "val_loss", "mode": "min"}], "params": ["optim.lr"], "data_dir": None,
}  # fmt: skip


def test_a_whole_one_is_read(tmp_path):
    path = tmp_path / "study.json"
    path.write_text(json.dumps(WHOLE))
    assert read_info(path) == WHOLE
    path.write_text(json.dumps({"study": "s"}))
    assert read_info(path, is_whole=False) == {"study": "s"}
    with pytest.raises(ValueError, match="study.json: has no budget, sessions, objectives, data_dir; it is damaged"):
        read_info(path)


@pytest.mark.parametrize(
    "data, said",
    [
        (b"", "is empty"),
        (b"{", "not valid JSON"),
        (b"\x00\xff", "not valid JSON"),
        (b"[" * 10**5, "not valid JSON"),
        (b"[]", "holds list, not an object"),
        (b"null", "holds NoneType, not an object"),
        ({"format": FORMAT + 1}, f"the study is of format {FORMAT + 1}, this mmtune reads up to {FORMAT}"),
        ({"format": "x"}, "format is str, not int"),
        ({"format": True}, "format is bool, not int"),
        ({"budget": []}, "budget is list, not dict"),
        ({"budget": {}}, "budget has no limit"),
        ({"budget": {"epochs": "9"}}, "budget.epochs is no number"),
        ({"sessions": [3]}, "sessions has 3, not an object"),
        ({"sessions": [{"seconds": "x"}]}, "sessions has seconds that are no number"),
        ({"objectives": [{"metric": "x", "mode": "most"}]}, "objectives has {'metric': 'x', 'mode': 'most'}, not"),
        ({"params": [[1]]}, "params has what is no name"),
        ({"data_dir": 3}, "data_dir is int, not str"),
    ],
)
def test_an_odd_one_is_named(tmp_path, data, said):
    path = tmp_path / "study.json"
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(WHOLE | data).encode())
    (tmp_path / "spec.yaml").touch()
    for read in (read_info, lambda path: open_study(path.parent)):
        with pytest.raises(ValueError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: {said}")
