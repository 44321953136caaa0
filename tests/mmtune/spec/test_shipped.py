"""Search files by name, from a checkout and from a wheel."""

import pytest

from mmtune.spec import shipped
from mmtune.spec.search_spec import load_spec
from mmtune.spec.shipped import find_search_file, shipped_search_files


def test_find_search_file(tmp_path, monkeypatch):
    package = tmp_path / "mmtune"
    for name in ("mmbv/moviescope", "demo/openclipart"):
        (tmp_path / f"search_spaces/{name}.yaml").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"search_spaces/{name}.yaml").touch()
    package.mkdir()
    (package / "search_spaces").symlink_to("../search_spaces")  # as in a checkout
    monkeypatch.setattr(shipped, "__file__", str(package / "spec" / "shipped.py"))
    assert list(shipped_search_files()) == ["demo/openclipart", "mmbv/moviescope"]
    assert find_search_file("mmbv/moviescope") == tmp_path / "search_spaces/mmbv/moviescope.yaml"
    assert find_search_file("mmbv/moviescope.yaml").is_file()
    own = tmp_path / "own.yaml"
    own.touch()
    assert find_search_file(own) == find_search_file(str(own)) == own
    for name, meant in [("mmbv/moviscope", "mmbv/moviescope"), ("openclipart", "demo/openclipart")]:
        with pytest.raises(ValueError, match=f"'{name}' is neither.*, did you mean '{meant}'.*mmtune list spaces"):
            find_search_file(name)
    (package / "search_spaces").unlink()
    (tmp_path / "search_spaces").rename(package / "search_spaces")  # as in the wheel
    assert find_search_file("mmbv/moviescope") == package / "search_spaces/mmbv/moviescope.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(shipped_search_files()))
def test_shipped_search_files_load(name):
    spec = load_spec(shipped_search_files()[name])
    assert spec.warnings == ()
    assert load_spec(spec.to_yaml()) == spec
