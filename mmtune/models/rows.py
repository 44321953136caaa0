"""New rows through a model into a file: here, or over a Ray cluster. Few rows are in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.models.newdata import NewData, find_data
from mmtune.models.reference import ModelRef
from mmtune.models.rowfile import check_name, row_file

if TYPE_CHECKING:
    import pyarrow

    from trainables.answering import Answered
    from trainables.trained import Trained

Progress = Callable[[str, int, int], None]
Make = Callable[["Trained", "Answered"], "pyarrow.Table"]  # the rows of the file


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        path: the file.
        num_rows: all of them.
        num_errors: those without an answer.
        first_error: the id of the first and its reason; None if there is none.
        columns: their names and types.
        notes: what a user should know of the rows.
    """

    path: Path
    num_rows: int
    num_errors: int
    first_error: str | None
    columns: dict[str, str]
    notes: tuple[str, ...]


def write_rows(
    ref: ModelRef,
    data: str | None,
    make: Make,
    *,
    out: Path,
    dataset: str | None,
    split: str | None,
    device: str,
    address: str | None,
    progress: Progress | None,
) -> Written:
    """Writes what ``make`` makes of a model's answers; see :func:`mmtune.models.predict.predict_data`.

    Raises:
        ValueError: no such data, rows that lack what the model reads, or a file that cannot be written.
    """
    from trainables.trained import load_trained

    check_name(out)
    if data is not None and out.exists() and Path(data).exists() and out.samefile(data):
        raise ValueError(f"--out {out}: is the file that is read")
    trained = load_trained(ref.folder, device="cpu" if address is not None else device, regions=ref.regions)
    given = find_data(trained, data, dataset=dataset, split=split)
    num_rows, num_errors, first, columns = 0, 0, None, {}
    with closing(_tables(trained, given, make, address)) as tables, row_file(out) as write:
        for table in tables:
            write(table)
            errors = table.column("error")
            if first is None and errors.null_count < len(errors):
                at = next(at for at, error in enumerate(errors.to_pylist()) if error is not None)
                first = f"{table.column('id')[at].as_py()}: {errors[at].as_py()}"
            num_rows, num_errors = num_rows + len(table), num_errors + len(errors) - errors.null_count
            columns = {field.name: str(field.type) for field in table.schema}
            if progress is not None:
                progress(ref.name, num_rows, max(num_rows, given.rows.total))
        if num_rows == 0:
            raise ValueError(f"{data}: has no row")
    return Written(out, num_rows, num_errors, first, columns, given.notes)


def _tables(trained: Trained, given: NewData, make: Make, address: str | None) -> Generator[pyarrow.Table]:
    from trainables.answering import answers_of, rows_at_once

    if address is not None:
        from mmtune.slots.rows import over_cluster

        regions = None if trained.region_file is None else str(Path(trained.region_file).expanduser().resolve())
        yield from over_cluster(
            given.rows, trained.folder, make, size=rows_at_once(trained), address=address, regions=regions
        )
        return
    for answered in answers_of(trained, given.rows.tables(rows_at_once(trained))):
        yield make(trained, answered)
