"""The sources' figures inside of a report: those that there are data for, and what inspections left."""

import base64

import pytest

from analysis.page.pictures import inspected_tables
from analysis.report import write_report
from mmtune.records import StudyFolder

TINY = base64.b64decode(b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNiAAAABgADNjd8qAAAAABJRU5ErkJggg==")


def url(content):
    return f'src="data:image/png;base64,{base64.b64encode(content).decode()}"'


@pytest.mark.slow
def test_figures_with_data_are_files_and_in_the_page(studies, tmp_path):
    paths = []
    for name, kind in (("base", "none"), ("moved", "dynamic")):
        trial = studies.trial(0, val_accuracy=0.5 if kind == "none" else 0.6)
        rows = [row | {"train_accuracy": 0.7, "uda_ratio": 1.0, "uda_case": "1"} for row in studies.reports(trial)]
        paths.append(studies.write(name, [trial], rows, fixed={"epochs": 20, "uda.mode": kind}))
    folder = StudyFolder(paths[1]).trial("t0000") / "inspected" / "val"
    folder.mkdir(parents=True)
    (folder / "errors.png").write_bytes(TINY)
    (folder / "latent-joint.png").write_bytes(TINY + bytes(300_000))
    (folder / "retrieval.csv").write_text("query,target,recall_at_1\ntext,image,0.25\n")
    (tmp_path / "out" / "figures").mkdir(parents=True)
    (tmp_path / "out" / "figures" / "augmented.png").write_bytes(TINY[:-1])
    files = write_report(paths, tmp_path / "out")
    assert files.figures is not None
    names = {f"{name}.{kind}" for name in ("fit", "overlay", "ratio") for kind in ("png", "svg")}
    assert {file.name for file in files.figures.iterdir()} == {*names, "augmented.png"}  # no fixed lambda: no regimes
    page = files.html.read_text()
    for name in ("fit", "overlay", "ratio", "augmented"):
        assert url((files.figures / f"{name}.png").read_bytes()) in page
        assert f"mmtune figure {name} base moved" in page
    assert url(TINY) in page and page.count("<img") == 5  # the large map is not in it
    assert "mmtune inspect moved/t0000 --what errors --split val" in page
    assert "Retrieval both ways: moved/t0000, val" in page and '<td class="number">0.25' in page
    before = {file: file.read_bytes() for file in files.html.parent.rglob("*.*")}
    write_report(paths, tmp_path / "out")
    assert {file: file.read_bytes() for file in files.html.parent.rglob("*.*")} == before


def test_long_tables_of_inspections_are_cut(studies):
    import pandas as pd

    path = studies.of(studies.trial(0))
    folder = StudyFolder(path).trial("t0000") / "inspected" / "val"
    folder.mkdir(parents=True)
    pairs = pd.DataFrame({"true": [f"c{n}" for n in range(50)], "mistakes": range(50)})
    pairs.to_csv(folder / "error_pairs.csv", index=False)
    models = pd.DataFrame({"study": ["demo"], "trial": ["t0000"]})
    ((caption, (header, rows)),) = inspected_tables(models, path)
    assert caption == "Mistakes by pair of classes: demo/t0000, val" and header == ["true", "mistakes"]
    assert rows[0] == ["c0", "0"] and len(rows) == 20
