"""Search files, tables and study folders that Hypothesis makes: each is read, or refused by name; never a traceback.

A few of each here; thousands with ``pytest tests/test_made_inputs.py --hypothesis-profile thousands``.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from spec_files import FAMILIES, GOOD, use_stand_ins

from analysis.reading import damaged_lines
from analysis.studies import load_reports, load_studies, study_cost
from mmtune import records
from mmtune.info import read_info
from mmtune.records import open_study
from mmtune.search.journal import Journal
from mmtune.spec.document import SpecError
from mmtune.spec.search_spec import load_spec
from mmtune.study.create import create_study
from mmtune.study.ledger import open_ledger
from mmtune.study.mend import mend_tables
from trainables.checkpoint import BEST, LAST, save_checkpoint
from trainables.data.formats import table
from trainables.data.reading.table import Table

pytestmark = pytest.mark.slow
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # of the profile

# --- search files -----------------------------------------------------------------------------------------------------
WORDS = sorted({word for text in (GOOD, FAMILIES) for word in text.replace(",", " ").replace(":", " ").split()})
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(WORDS), st.text(max_size=8), st.dates()
)
TREES = st.recursive(
    SCALARS,
    lambda part: (
        st.lists(part, max_size=4)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5) | st.integers(), part, max_size=5)
    ),
    max_leaves=12,
)
SECTIONS = sorted(
    {*yaml.safe_load(GOOD), *yaml.safe_load(FAMILIES), "constraints", "keep", "confirm", "finalists", "seeds"}
)


@st.composite
def search_files(draw: st.DrawFn) -> str:
    """A good one with other sections, or any text at all."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.text()) + "\n"
    tree = yaml.safe_load(draw(st.sampled_from([GOOD, FAMILIES])))
    tree |= draw(st.dictionaries(st.sampled_from(SECTIONS), TREES, max_size=3))
    return yaml.safe_dump(tree, allow_unicode=draw(st.booleans()))


@SHARED
@given(
    text=search_files(),
    overrides=st.lists(st.sampled_from(WORDS).flatmap(lambda w: st.text().map(lambda t: f"{w}={t}")), max_size=1),
)
def test_a_search_file_loads_or_its_problems_are_said(text, overrides, monkeypatch):
    use_stand_ins(monkeypatch)
    try:
        spec = load_spec(text, overrides=overrides)
    except SpecError as error:
        assert error.problems
    except ValueError as error:  # an override that is none
        assert str(error)
    else:
        assert load_spec(spec.to_yaml()) == spec


# --- tables -----------------------------------------------------------------------------------------------------------
COLUMNS = ["id", "text", "label", "number", "kind", "split", "picture"]
CELLS = st.one_of(
    st.sampled_from(["", "a", "b", "train", "val", "test", "1", "1.0", "-1e400", "a|b", '["a"]', "a.png", "../x", '"']),
    st.text(max_size=6), st.integers().map(str), st.floats().map(str),
)  # fmt: skip
KEYS = {
    "files": st.sampled_from(["rows.csv", ["rows.csv"], {"train": "rows.csv"}, "none.csv"]) | TREES,
    "text": st.sampled_from(["text", ["text", "kind"]]),
    "image": st.just("picture"),
    "labels": st.sampled_from(["multiclass", "multilabel", "regression", "x"]).map(
        lambda kind: {"y": {"column": "label", "kind": kind}}
    ) | TREES,
    "numeric": st.just(["number"]) | TREES,
    "categorical": st.just(["kind"]) | TREES,
    "id": st.just("id"),
    "split": st.just("split"),
    "group": st.just("kind"),
    "separator": st.sampled_from([",", ";", "\t", "ab", ""]),
    "na_values": st.lists(st.text(max_size=3), max_size=2),
}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, bytes]:
    """table.yaml, and rows.csv."""
    needed = ("files", "labels", "text")
    keys = [*needed, *draw(st.lists(st.sampled_from(sorted(KEYS)), max_size=5))]
    described = yaml.safe_dump({key: draw(KEYS[key]) for key in dict.fromkeys(keys)}, allow_unicode=True)
    rows = draw(st.lists(st.lists(CELLS, min_size=6, max_size=8), max_size=8))
    text = "\n".join([",".join(COLUMNS), *(",".join(row) for row in rows)])
    data = (text + "\n").encode("utf-8", "surrogatepass")
    at = draw(st.integers(0, len(data)))
    return described, data[:at] + draw(st.just(b"") | st.binary(max_size=6)) + data[at:]


@SHARED
@given(made=tables())
def test_a_table_is_read_or_what_is_wrong_with_it_is_said(made):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        described, rows = made
        (Path(folder) / "table.yaml").write_text(described, encoding="utf-8", errors="surrogatepass")
        (Path(folder) / "rows.csv").write_bytes(rows)
        try:
            found = table.read(folder)
        except ValueError as error:
            assert str(error)
        else:
            assert isinstance(found, Table) and len(set(found.ids)) == len(found.ids) == len(found.split)


# --- study folders ----------------------------------------------------------------------------------------------------
SPEC = """\
study: s
family: text
dataset: openclipart
objectives: [{metric: val_accuracy}]
fixed: {epochs: 4, model.text_encoder: tiny-bert}
space: {optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2}}
scheduler: {name: asha, grace_epochs: 1, reduction_factor: 2}
budget: {trials: 3}
"""
FILES = ["study.json", "spec.yaml", "reports.csv", "trials.csv", "changes.csv", "caches.csv", "optuna.log",
         f"trials/t0000/{LAST}", f"trials/t0001/{BEST}"]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """t0000 under way after two epochs, t0001 paused after one."""
    spec = load_spec(SPEC)
    folder = create_study(spec, storage=tmp_path_factory.mktemp("studies"))
    ledger = open_ledger(folder, spec, read_info(folder.info))
    journal = Journal(folder.optuna_log, name="s", objectives=[("val_accuracy", "max")])
    for number, epochs in enumerate((2, 1)):
        name = records.trial_id(number)
        rows = [
            {"epoch": epoch, "val_accuracy": epoch / 7, "train_loss": 1.0, "device_seconds": 1.0}
            for epoch in range(1, epochs + 1)
        ]
        trial = journal.ask(RandomSampler(seed=1))
        ledger.start(name, {"optim.lr": trial.suggest_float("optim.lr", 1e-4, 1e-2)}, until=epochs)
        for row in rows:
            ledger.add(name, row)
        journal.report(number, {row["epoch"]: row["val_accuracy"] for row in rows})
        save_checkpoint(folder.trial(name) / BEST, {"x": torch.zeros(1)}, {"report": rows[-1]})
        save_checkpoint(folder.trial(name) / LAST, {"x": torch.zeros(1)}, {"progress": {"reports": rows}})
    ledger.pause("t0001")
    records.CsvAppender(folder.caches).append({"trial": "t0000", "device_seconds": 1.0})
    ledger.close()
    records.CsvAppender(folder.changes).append({"trial": "t0001", "state": "PAUSED", "epochs": 1})
    return folder.root


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, float, bytes | None]]:
    """Of some files: what lies between two places is replaced by other bytes; None: the file is gone."""
    place, other = (
        st.floats(0, 1),
        st.none() | st.binary(max_size=20) | CELLS.map(lambda cell: cell.encode("utf-8", "replace")),
    )
    line = st.lists(CELLS, max_size=9).map(lambda cells: f"\nt0000,{','.join(cells)}\n".encode("utf-8", "replace"))
    return draw(st.lists(st.tuples(st.sampled_from(FILES), place, place, other | line), min_size=1, max_size=3))


def damage(root, changes):
    for name, begin, end, other in changes:
        path = root / name
        if other is None:
            path.unlink(missing_ok=True)
        elif path.exists():
            data = path.read_bytes()
            begin, end = sorted((int(begin * len(data)), int(end * len(data))))
            path.write_bytes(data[:begin] + other + data[min(end, begin + 30) :])


def looks(root):
    """What status and reports read."""
    folder = open_study(root)
    for path in (folder.reports, folder.trials):
        damaged_lines(path)
    if study_cost(root).states:
        load_studies(root)
    load_reports(root)


def goes_on(root):
    """What resume reads before anything starts."""
    folder = open_study(root)
    info, spec = read_info(folder.info), load_spec(folder.spec)
    mend_tables(folder, spec, info, lambda line: None)
    ledger = open_ledger(folder, spec, info)
    for trial in ledger.trials.values():
        ledger.row(trial)
    ledger.close()
    Journal(folder.optuna_log, name=spec.study, objectives=[("val_accuracy", "max")]).trials()


@SHARED
@example(changes=[("reports.csv", 0.0, 0.0, b"\0")])  # no column of that name
@given(changes=damages())
def test_a_damaged_study_is_read_mended_or_refused(changes, study):
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = Path(scratch) / "s"
        shutil.copytree(study, root)
        damage(root, changes)
        for use in (looks, goes_on, looks):
            try:
                use(root)
            except ValueError as error:
                assert str(error) and "\n  File" not in str(error)
