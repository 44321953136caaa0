import re

import pandas as pd
import pytest

from analysis.several import write_several


@pytest.mark.slow
def test_studies_of_different_data_have_a_report_each_and_one_table(studies, tmp_path):
    art = studies.of(studies.trial(0), studies.trial(1, family="fusion", val_accuracy=0.8), name="art")
    more = studies.of(studies.trial(0, family="image", val_accuracy=0.7), name="more")
    snli = studies.of(
        studies.trial(0, val_loss=0.4), name="snli", dataset="snli_ve",
        objectives=[{"metric": "val_loss", "mode": "min"}],
    )  # fmt: skip
    files = write_several([art, more, snli], tmp_path / "out")
    assert all(file.is_file() for file in files)
    rows = pd.read_csv(tmp_path / "out" / "tasks.csv")
    assert rows.loc[rows["is_best"], "family"].to_list() == ["fusion", "text"]
    models = pd.read_csv(tmp_path / "out" / "models.csv").set_index(["study", "family"])
    assert models.loc[("snli", "text"), ["metric", "value"]].to_list() == ["val_loss", 0.4]
    page = (tmp_path / "out" / "report.html").read_text()
    links = re.findall(r'href="([^"]+\.html)"', page)
    assert links == ["openclipart-val_accuracy/report.html", "snli/report.html"]
    assert all((tmp_path / "out" / link).is_file() for link in links)
    assert "0.8000 *" in page and "art, more" in page
