"""Each problem of a search file: where it is and what the message says."""

from __future__ import annotations

import pickle

import pytest
from spec_files import GOOD, line_of, problems

from mmtune.spec.document import SpecError
from mmtune.spec.search_spec import load_spec

pytestmark = pytest.mark.usefixtures("stand_ins")


# --- each problem: (in GOOD, replace this, by that, key, part of the message); the line is that of the change ---
CASES = [
    ("study: demo", "study: Demo", "study", "'Demo' does not fit"),
    ("study: demo", "study: 7", "study", "7; a string is expected"),
    ("study: demo", "study: demo\nstudy: x", "study", "is given twice, first on line 4"),
    ("study: demo", "study: &a demo", "syntax", "&a: anchors and aliases are not allowed"),
    ("study: demo", "study: !!python/name:os.system demo", "study", "the tag tag:yaml.org,2002:python/name:os.system"),
    ("study: demo", "stdy: demo", "stdy", "unknown key, did you mean 'study'?"),
    ("study: demo", "study: demo\noptim: {lr: 1}", "optim", "is a setting of the trials: it goes under fixed, or"),
    (
        "family: fusion",
        "family: fusoin",
        "family",
        "'fusoin' is unknown, did you mean 'fusion'? Known: text, image, fus",
    ),
    ("family: fusion", "family: no", "family", "YAML reads no as false; quote it"),
    ("family: fusion", "family: [text, image]", "family", "to search it write {type: categorical, choices: [...]}"),
    ("family: fusion", "family: {type: int, low: 1, high: 2}", "family.type", "is categorical"),
    ("dataset: open", "dataset: opne", "dataset", "did you mean 'openclipart'?"),
    (
        "{metric: val_macro_f1, mode: max}",
        "{metric: val_macro_f2, mode: max}",
        "objectives[0].metric",
        "'val_macro_f1'?",
    ),
    (
        "{metric: val_macro_f1, mode: max}",
        "{metric: val_macro_f1, mode: min}",
        "objectives[0].mode",
        "larger, write max",
    ),
    ("{metric: val_macro_f1, mode: max}", "{metric: epochs}", "objectives[0].metric", "'epochs' is a cost"),
    ("{metric: val_macro_f1, mode: max}", "val_macro_f1", "objectives[0]", "write {metric: val_accuracy, mode: max}"),
    ("{metric: val_macro_f1, mode: max}", "{mode: max}", "objectives[0]", "has no metric"),
    ("{metric: device_seconds}", "{metric: val_macro_f1}", "objectives[1].metric", "is there already"),
    ("{metric: device_seconds}", "{metrik: epochs}", "objectives[1].metrik", "did you mean 'metric'?"),
    ("epochs: 9", "epocs: 9", "fixed.epocs", "unknown key, did you mean 'epochs'?"),
    ("epochs: 9", "epochs: 9.0", "fixed.epochs", "9.0 is not a whole number"),
    ("epochs: 9", "epochs: true", "fixed.epochs", "true is not a number"),
    ("epochs: 9", "epochs: 0", "fixed.epochs", "0 must be at least 1"),
    ("epochs: 9", "lr: 9", "fixed.lr", "did you mean 'optim.lr'?"),
    ("epochs: 9", "optim: {lr: 1.0}", "fixed.optim", "is a section; write flat keys such as optim."),
    ("epochs: 9", "family: text", "fixed.family", "belongs at the top level"),
    ("epochs: 9", "data_dir: /x", "fixed.data_dir", "comes from --data"),
    ("epochs: 9", "objective: x", "fixed.objective", "is the metric of the first of objectives"),
    ("epochs: 9", "precision: no", "fixed.precision", "YAML reads no as false; quote it"),
    ("epochs: 9", "optim.lr: 0.1", "space.optim.lr", "is both fixed and searched"),
    ("epochs: 9", "uda.temperature: 1e-1", "fixed.uda.temperature", "'1e-1' is a string in YAML; write 1.0e-1"),
    ("epochs: 9", "epochs: 010", "fixed.epochs", "YAML reads 010 as 8"),
    ("epochs: 9", "epochs: 1:30", "fixed.epochs", "YAML reads 1:30 as 90"),
    ("model.kind: late", "model.kind: lat", "fixed.model.kind", "'lat' is unknown, did you mean 'late'? Known: early"),
    ("model.kind: late", "model.kid: late", "fixed.model.kid", "unknown key, did you mean 'model.kind'?"),
    ("low: 1.0e-5", "low: 1e-5", "space.optim.lr.low", "'1e-5' is a string in YAML; write 1.0e-5"),
    ("low: 1.0e-5", "low: .nan", "space.optim.lr.low", "nan is not finite"),
    ("low: 1.0e-5", "low: null", "space.optim.lr.low", "null is not a number"),
    ("low: 1.0e-5", "low: [1]", "space.optim.lr.low", "is a list; a number is expected"),
    ("low: 1.0e-5", "low: 1.0", "space.optim.lr.low", "1.0 is above high (0.0005)"),
    ("low: 1.0e-5, ", "", "space.optim.lr", "has no low"),
    ("low: 1.0e-5", "low: 1.0e-5, choices: [1]", "space.optim.lr.choices", "has no meaning for type: float"),
    ("low: 1.0e-5", "low: 1.0e-5, lg: true", "space.optim.lr.lg", "unknown key, did you mean 'log'?"),
    ("high: 5.0e-4, log: true", "high: 5.0e-4, log: 1", "space.optim.lr.log", "1 is neither true nor false"),
    ("high: 5.0e-4", "high: 50", "space.optim.lr.high", "50.0 must be at most 10.0"),
    ("high: 0.5", "high: 1", "space.model.dropout.high", "1.0 must be below 1.0"),
    ("{type: float, low: 0, high: 0.5}", "{type: flot, low: 0}", "space.model.dropout.type", "did you mean 'float'?"),
    ("{type: float, low: 0, high: 0.5}", "{low: 0}", "space.model.dropout", "has no type: float, int, categorical"),
    ("{type: float, low: 0, high: 0.5}", "0.5", "space.model.dropout", "is 0.5; a domain is such as {type: float"),
    ("{type: float, low: 0, high: 0.5}", "[]", "space.model.dropout", "is an empty list"),
    (
        "model.dropout: {type: float, low: 0,",
        "eval_batch_size: {type: float, low: 0,",
        "space.eval_batch_size.type",
        "type: int",
    ),
    ("model.dropout:", "model.droput:", "space.model.droput", "unknown key, did you mean 'model.dropout'?"),
    ("model.dropout:", "epochs:", "space.epochs", "it is the fidelity that the scheduler compares"),
    ("model.dropout:", "dataset:", "space.dataset", "scores on different data do not compare"),
    ("model.dropout:", "objective:", "space.objective", "see objectives"),
    ("model.dropout:", "seed:", "space.seed", "would select luck"),
    ("model.dropout:", "family:", "space.family", "belongs at the top level"),
    ("[none, fixed, dynamic]", "[none, fixed, dynamc]", "space.uda.mode.choices[2]", "did you mean 'dynamic'?"),
    ("[none, fixed, dynamic]", "[none, off, fixed, dynamic]", "space.uda.mode.choices[1]", "YAML reads off as false"),
    ("[none, fixed, dynamic]", "[none, none, fixed, dynamic]", "space.uda.mode.choices", "'none' occurs twice"),
    ("[none, fixed, dynamic]", "none", "space.uda.mode.choices", "is 'none'; a list is expected"),
    ("[none, fixed, dynamic]", "[]", "space.uda.mode.choices", "is empty"),
    (
        "when: {uda.mode: [fixed, dynamic]}",
        "when: {uda.mod: fixed}",
        "space.uda.lam.when.uda.mod",
        "did you mean 'uda.mode'?",
    ),
    ("when: {uda.mode: [fixed, dynamic]}", "when: {uda.mode: [fixd]}", "space.uda.lam.when.uda.mode", "mean 'fixed'?"),
    (
        "when: {uda.mode: [fixed, dynamic]}",
        "when: {uda.mode: no}",
        "space.uda.lam.when.uda.mode",
        "YAML reads no as fa",
    ),
    ("when: {uda.mode: [fixed, dynamic]}", "when: {uda.mode: []}", "space.uda.lam.when.uda.mode", "is empty"),
    ("when: {uda.mode: [fixed, dynamic]}", "when: fixed", "space.uda.lam.when", "write {other_key: [values]}"),
    ("when: {uda.mode: [fixed, dynamic]}", "when: {uda.n: 1}", "space.uda.lam.when.uda.n", "is a number"),
    ("when: {uda.mode: [fixed, dynamic]}", "when: {family: txt}", "space.uda.lam.when.family", "did you mean 'text'?"),
    ("when: {uda.mode: [fixed, dynamic]}", "when: {model.kind: lat}", "space.uda.lam.when.model.kind", "mean 'late'?"),
    ("at_most: uda.n", "at_most: uda.N", "space.uda.k.at_most", "did you mean 'uda.n'?"),
    ("at_most: uda.n", "at_most: uda.lam", "space.uda.k.at_most", "an int can only be bounded by an int"),
    ("at_most: uda.n", "at_most: batch_size", "space.uda.k.at_most", "is fixed at 32; write that as high"),
    ("at_most: uda.n", "at_most: 3", "space.uda.k.at_most", "is 3; a string is expected"),
    ("low: 0, high: 4", "low: 2, high: 4", "space.uda.k.at_most", "'uda.n' can be 1, below low (2)"),
    ("optim.lr: 5.0e-5", "optim.lr: 5e-5", "try_first[0].optim.lr", "write 5.0e-5"),
    ("optim.lr: 5.0e-5", "optim.lr: 5.0", "try_first[0].optim.lr", "5.0 is not in 1.0e-05 to 0.0005"),
    ("optim.lr: 5.0e-5", "optim.lrr: 5.0", "try_first[0].optim.lrr", "did you mean 'optim.lr'?"),
    ("optim.lr: 5.0e-5", "batch_size: 16", "try_first[0].batch_size", "is fixed at 32, not searched"),
    ("uda.k: 1}", "uda.k: 1.0}", "try_first[0].uda.k", "1.0 is not a whole number"),
    (
        "uda.mode: dynamic, uda.lam: 1, ",
        "uda.mode: dynamic, uda.lam: 1, uda.lam: 2, ",
        "try_first[0].uda.lam",
        "given twice",
    ),
    ("name: tpe", "name: tep", "sampler.name", "'tep' is unknown, did you mean 'tpe'?"),
    ("name: tpe", "name: random", "sampler.multivariate", "unknown key. Known: name, seed"),
    ("multivariate: true", "multivariat: true", "sampler.multivariat", "did you mean 'multivariate'?"),
    ("multivariate: true", "multivariate: 1", "sampler.multivariate", "1 is neither true nor false"),
    ("multivariate: true", "n_startup_trials: -1", "sampler.n_startup_trials", "-1 must be at least 0"),
    ("multivariate: true", "n_ei_candidates: 0", "sampler.n_ei_candidates", "0 must be at least 1"),
    ("multivariate: true", "multivariate: false, group: true", "sampler.group", "needs multivariate: true"),
    ("name: tpe, seed: 3, multivariate: true", "name: qmc, qmc_type: sobl", "sampler.qmc_type", "'sobol'?"),
    ("name: tpe, seed: 3, multivariate: true", "name: nsga2, mutation_prob: 2", "sampler.mutation_prob", "at most 1"),
    ("seed: 3, multivariate: true", "seed: 1.5", "sampler.seed", "1.5 is not a whole number"),
    (
        "name: tpe, seed: 3, multivariate: true",
        "name: brute_force",
        "sampler.name",
        "needs a step in each float; without one: optim.lr, model.dropout, uda.lam",
    ),
    ("name: asha", "name: ahsa", "scheduler.name", "did you mean 'asha'?"),
    ("scheduler: {name: asha, grace_epochs: 4, reduction_factor: 3}", "scheduler: none", "scheduler", "{name: none}"),
    ("grace_epochs: 4", "grace_epochs: 10", "scheduler.grace_epochs", "10 is above the epochs of a trial (9)"),
    ("grace_epochs: 4", "grace_epochs: 0", "scheduler.grace_epochs", "0 must be at least 1"),
    ("grace_epochs: 4", "grace: 4", "scheduler.grace", "did you mean 'grace_epochs'?"),
    ("reduction_factor: 3", "reduction_factor: 1", "scheduler.reduction_factor", "1 must be at least 2"),
    ("trials: 48", "trials: 0", "budget.trials", "0 must be at least 1"),
    ("trials: 48", "trails: 48", "budget.trails", "did you mean 'trials'?"),
    ("trials: 48", "trials: true", "budget.trials", "true is not a number"),
    ("trials: 48", "trials: 1e2", "budget.trials", "'1e2' is a string in YAML; write 1.0e+2"),
    ("device_hours: 200", "device_hours: 0", "budget.device_hours", "0 must be above 0"),
    ("device_hours: 200", "device_hours: .inf", "budget.device_hours", "inf is not finite"),
    ("budget: {trials: 48, device_hours: 200}", "budget: {}", "budget", "give trials, epochs, device_hours or wall_"),
    ("device_hours: 200", "epochs: 0", "budget.epochs", "0 must be at least 1"),
    ("budget: {trials: 48, device_hours: 200}", "budget: 48", "budget", "is 48; a mapping is expected"),
    ("workers: 2", "workers: 0", "resources.workers", "0 must be at least 1"),
    ("workers: 2", "isolation: thread", "resources.isolation", "Known: slot, process"),
    ("workers: 2", "max_trial_retries: -1", "resources.max_trial_retries", "-1 must be at least 0"),
    ("gpus_per_worker: 1", "gpus_per_worker: 2", "resources.gpus_per_worker", "a worker drives one device"),
    ("gpus_per_worker: 1", "gpus_per_worker: 1.0e-5", "resources.gpus_per_worker", "1.0e-05 is below 0.0001, Ray's"),
    ("gpus_per_worker: 1", "cpus_per_worker: 0", "resources.cpus_per_worker", "a worker without a GPU needs a share"),
    ("concurrent_trials: 4", "concurrent_trials: 0", "resources.concurrent_trials", "0 must be at least 1"),
    (
        "concurrent_trials: 4",
        "concurrent_trials: atuo",
        "resources.concurrent_trials",
        "neither auto nor a whole number",
    ),
    ("resources: {", "resurces: {", "resurces", "did you mean 'resources'?"),
    ("budget: {trials: 48, device_hours: 200}", "budget: {trials: 48}\n\tx: 1", "syntax", "a tab; indent with spaces"),
    ("budget: {trials: 48, device_hours: 200}", "budget: {<<: {trials: 4}}", "budget.<<", "merge keys are not allowed"),
    ("budget: {trials: 48, device_hours: 200}", "budget: {trials: 4}\n? [a]\n: b", "syntax", "a key must be a word"),
]


@pytest.mark.parametrize("old, new, key, message", CASES, ids=[f"{key}: {new[:30]}" for _, new, key, _ in CASES])
def test_one_problem(old, new, key, message):
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    found = problems(text)
    mine = [problem for problem in found if problem[0] == key]
    assert len(mine) == 1, found
    assert message in mine[0][2]
    if new != "optim.lr: 0.1":  # there the searched key is the one that is named
        assert mine[0][1] == line_of(old, GOOD) + new.count("\n") - (key == "syntax" and "? [a]" in new)
    others = {problem[0] for problem in found} - {key} - ({"study"} if key == "stdy" else set())
    assert not others, found


@pytest.mark.parametrize(
    "old, new, key, line, message",
    [
        ("study: demo\n", "", "study", None, "is missing"),
        ("family: fusion\n", "", "family", None, "is missing. Known: text, image"),
        ("dataset: openclipart\n", "", "dataset", None, "is missing. Known: openclipart"),
        ("budget: {trials: 48, device_hours: 200}\n", "", "budget", None, "is missing: give trials"),
        ("{trials: 48, device_hours: 200}", "{trials: 48, wall_hours: *a}", "syntax", 22, "*a: anchors"),
        ("  uda.mode: ", " \tuda.mode: ", "syntax", 14, "tab"),
        (
            "budget: {trials: 48, device_hours: 200}",
            "budget: {trials: 48",
            "syntax",
            23,
            "while parsing a flow mapping",
        ),
        ("fixed: {", "fixed: [{", "syntax", 11, "expected"),
        (
            "try_first:\n",
            "try_first:\n" + 48 * "  - {uda.mode: none}\n",
            "try_first",
            18,
            "49 trials, more than budget.trials (48)",
        ),
        ("trials: 48,", "trials: 48,\n  trials: 47,", "budget.trials", 23, "is given twice, first on line 22"),
        ("optim.lr: 5.0e-5", "\n     optim.lr: 5.0", "try_first[0].optim.lr", 20, "is not in"),
    ],
)
def test_one_problem_elsewhere(old, new, key, line, message):
    assert old in GOOD
    (found,) = problems(GOOD.replace(old, new))
    assert found[:2] == (key, line)
    assert message in found[2]


def test_all_problems_at_once_in_the_layout_of_the_conventions(tmp_path):
    path = tmp_path / "moviescope.yaml"
    path.write_text(
        "family: fusoin\n"
        "dataset: moviescope\n"
        "fixed:\n"
        "  epocs: 3\n"
        "space:\n"
        "  optim.lr: {type: float, high: 1.0,\n"
        "             low: 1e-5}\n"
        "budget: {trials: 0}\n"
    )
    with pytest.raises(SpecError) as caught:
        load_spec(path, overrides=["resources.workers=none"])
    assert str(caught.value) == (
        f"{path} has 5 problems:\n"
        "  family (line 1): 'fusoin' is unknown, did you mean 'fusion'? Known: text, image, fusion, needs\n"
        "  fixed.epocs (line 4): unknown key, did you mean 'epochs'?\n"
        "  space.optim.lr.low (line 7): '1e-5' is a string in YAML; write 1.0e-5\n"
        "  budget.trials (line 8): 0 must be at least 1\n"
        "  resources.workers (--set resources.workers=none): 'none' is not a number"
    )
    assert isinstance(caught.value, ValueError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.problems) == (str(caught.value), caught.value.problems)


def test_one_problem_is_singular():
    with pytest.raises(SpecError, match=r"^search file has 1 problem:\n  study \(line 4\): "):
        load_spec(GOOD.replace("study: demo", "study: '-'"))


def test_a_broken_domain_is_not_also_a_missing_reference():
    text = GOOD.replace("choices: [none, fixed, dynamic]", "chioces: [none, fixed, dynamic]")
    assert {key for key, _, _ in problems(text)} == {"space.uda.mode.chioces"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "file: is empty"),
        (b"# only a comment\n", "file: is empty"),
        (b"- a\n- b\n", "file (line 1): is a list; a search file is a mapping of study, family, dataset, ..."),
        (b"hello", "file (line 1): is 'hello'"),
        (b"\xff\xfe\x00\x01", "file: is not text in UTF-8"),
        (b"a: \x00", "syntax (line 1): character #x0000 is not allowed"),
        (b"a: 1\n---\nb: 2\n", "syntax (line 2): expected a single document in the stream, but found another document"),
        (b"a: " + b"[" * 5000, "syntax: is nested too deeply"),
        (b'a: "\\UFFFFFFFF"', "syntax: is not valid YAML"),
        (b'study: "\\uD800"', "study (line 1): '\\ud800' is not valid Unicode"),
        (b"study: " + b"9" * 5000, "study (line 1): '999999"),
    ],
)
def test_files_that_are_no_search_files(tmp_path, content, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert f"\n  {message}" in str(caught.value)
    assert all(len(line) < 300 for line in str(caught.value).splitlines())


def test_files_that_cannot_be_read(tmp_path):
    for path, message in [(tmp_path / "no.yaml", "does not exist"), (tmp_path, "is a directory"), ("a\0b", "cannot")]:
        with pytest.raises(SpecError, match=f"has 1 problem:\n  file: {message}"):
            load_spec(path)
