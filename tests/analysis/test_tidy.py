import io

import pandas as pd

from analysis.tidy import csv_text


def test_one_format_of_times_booleans_and_missing_values():
    table = pd.DataFrame(
        {
            "ended": pd.to_datetime(["2026-01-02T03:04:05+01:00", None], utc=True),
            "is_knee": [True, False],
            "choice": [False, "null"],
            "name": ['a,"b"', None],
            "value": [0.1, float("nan")],
        }
    )
    lines = csv_text(table).split("\n")
    assert lines[1] == '2026-01-02T02:04:05Z,true,false,"a,""b""",0.1'
    assert lines[2] == ",false,null,,"
    assert pd.read_csv(io.StringIO(csv_text(table)))["value"].tolist()[0] == 0.1
    assert table["is_knee"].dtype == bool  # the table stays as it was
