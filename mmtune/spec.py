"""SearchSpec: one search file, typed and frozen. ``load_spec`` collects everything wrong in it and raises once.

1. The YAML is read with the line of every key; anchors, tags and duplicate keys are refused.
2. Overrides (``key=value``) change that tree, and take the place of the line in messages.
3. Each section is checked on its own, each key against the field of ``TrialConfig`` that it sets.
4. The space as a whole, ``try_first``, and one TrialConfig for each corner of the space.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeGuard, get_args

import yaml
from pydantic import BaseModel, ValidationError

from mmtune.records import COSTS, METRICS
from mmtune.spaces import Categorical, Domain, Number, Space, did_you_mean, number_problem, show, unknown
from trainables.config import TrialConfig

SAMPLER_OPTIONS: dict[str, dict[str, type]] = {  # Optuna's words
    "tpe": {
        "n_startup_trials": int,
        "n_ei_candidates": int,
        "multivariate": bool,
        "group": bool,
        "constant_liar": bool,
    },
    "random": {},
    "qmc": {"qmc_type": str, "scramble": bool},
    "nsga2": {"population_size": int, "mutation_prob": float, "crossover_prob": float, "swapping_prob": float},
    "gp": {"n_startup_trials": int, "deterministic_objective": bool},
    "brute_force": {},
}
SAMPLER_NAMES = tuple(SAMPLER_OPTIONS)
SCHEDULER_NAMES = ("asha", "none")

_TOP_KEYS = (
    *("study", "family", "dataset", "objectives", "fixed", "space", "try_first"),
    *("sampler", "scheduler", "budget", "resources"),
)
_NOT_SEARCHED = {
    "family": "belongs at the top level: family: {type: categorical, choices: [...]}",
    "dataset": "cannot be searched, scores on different data do not compare; give it at the top level",
    "target": "cannot be searched, scores on different labels do not compare; put it under fixed",
    "epochs": "cannot be searched, it is the fidelity that the scheduler compares trials at; put it under fixed",
    "objective": "cannot be searched, it is what the search is for; see objectives",
    "seed": "cannot be searched, that would select luck; put it under fixed, repeat the best with other seeds",
    "data_dir": "comes from --data",
}
_NOT_FIXED = {
    "family": "belongs at the top level",
    "dataset": "belongs at the top level",
    "objective": "is the metric of the first of objectives",
    "data_dir": "comes from --data",
}
_UNKNOWN_KEY = "unknown key"
_UDA_GRACE = 4  # METHODS D48: dynamic lambda acts from epoch 2 on, its effect shows later

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Objective:
    metric: str  # in records.METRICS, or, but for the first, in records.COSTS
    mode: str  # max or min, always the metric's own


@dataclass(frozen=True)
class SamplerSpec:
    name: str = "tpe"
    seed: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)  # see SAMPLER_OPTIONS


@dataclass(frozen=True)
class SchedulerSpec:
    name: str = "asha"
    grace_epochs: int = 1  # no trial is stopped earlier
    reduction_factor: int = 3  # one of so many trials goes on from a rung
    brackets: int = 1


@dataclass(frozen=True)
class Budget:
    """What ends the study, whichever comes first; None is no limit."""

    trials: int | None = None
    device_hours: float | None = None  # wall hours x workers, over all trials
    wall_hours: float | None = None


@dataclass(frozen=True)
class Resources:
    workers: int = 1  # ranks of one trial
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0  # 0 to 1; a rank drives one device
    concurrent_trials: int | Literal["auto"] = "auto"
    isolation: str = "slot"  # slot: workers serve trial after trial; process: fresh workers for each
    max_trial_retries: int = 2


@dataclass(frozen=True)
class SearchSpec:
    """One study: what is searched, by what, for how long. Made by :func:`load_spec`."""

    study: str
    family: str | None  # None when searched
    families: tuple[str, ...]
    dataset: str
    objectives: tuple[Objective, ...]
    fixed: Mapping[str, Any]
    space: Space
    try_first: tuple[Mapping[str, Any], ...]
    sampler: SamplerSpec
    scheduler: SchedulerSpec
    budget: Budget
    resources: Resources
    warnings: tuple[str, ...] = ()
    source: str = field(default="", compare=False)  # where it was read
    text: str = field(default="", compare=False, repr=False)  # what to_yaml gives

    @property
    def epochs(self) -> int:
        """Epochs of a trial that is not stopped."""
        return self.fixed.get("epochs", TrialConfig.model_fields["epochs"].default)

    def config_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that makes the TrialConfig of ``params``, flat: fixed values, family, dataset, objective."""
        common = {"family": self.family, "dataset": self.dataset, "objective": self.objectives[0].metric}
        merged = {**common, **self.fixed, **params}
        return _with_floats(merged, _fields(merged["family"]))

    def trial_config(self, params: Mapping[str, Any], data_dir: str | Path | None = None) -> TrialConfig:
        """The TrialConfig of ``params``.

        Args:
            data_dir: where the dataset lies; None for embedded ones.

        Raises:
            ValueError: the params are not valid together.
        """
        merged = self.config_params(params)
        if data_dir is not None:
            merged["data_dir"] = str(data_dir)
        return TrialConfig.from_params(merged)

    def to_yaml(self) -> str:
        """The search file, overrides applied: loads as an equal spec under any file name.

        Without overrides this is the original text to the byte, plus a line ``study:`` if it had none.
        """
        return self.text


class Problem(NamedTuple):
    key: str
    line: int | None  # None when there is no such line: an override, a file that cannot be read
    message: str


class SpecError(ValueError):
    """Everything that is wrong with a search file, one line each; ``problems`` has them as tuples.

    Args:
        source: the file.
        found: the problems.
        places: for each the override that it comes from, None when from the file.
    """

    def __init__(self, source: str, found: Sequence[Problem], places: Sequence[str | None] | None = None) -> None:
        self.source, self.problems = source, list(found)
        self.places = list(places) if places is not None else [None] * len(found)
        lines = [f"{source} has {len(found)} problem{'s' if len(found) != 1 else ''}:"]
        for problem, place in zip(self.problems, self.places, strict=True):
            where = place if place is not None else None if problem.line is None else f"line {problem.line}"
            lines.append(f"  {problem.key}{f' ({where})' if where else ''}: {problem.message}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> Any:
        return SpecError, (self.source, self.problems, self.places)


def load_spec(path_or_text: str | Path, *, overrides: Sequence[str] = (), name: str | None = None) -> SearchSpec:
    """The study that a search file describes.

    Args:
        path_or_text: a file, or YAML itself if it is a string with a line break.
        overrides: ``key=value`` each, the value in YAML: ``budget.trials=4``, ``fixed.optim.lr=0.001``,
            ``space.optim.lr.low=1.0e-4``; ``space.optim.lr=null`` takes a parameter out of the space.
        name: of the study, instead of ``study:`` or the file's name.

    Raises:
        SpecError: with everything that is wrong, in the order of the file.
    """
    source, text, stem = _read(path_or_text)
    document = _Document(source, text)
    for override in overrides:
        document.override(override)
    if name is not None:
        document.put(("study",), name, f"name '{name}'")
    return _Reader(document).spec(stem)


def shipped_search_files() -> dict[str, Path]:
    """The search files that come with mmtune, by name: ``{"mmbv/moviescope": Path(...), ...}``."""
    package = Path(__file__).parent
    installed, checkout = package / "search_spaces", package.parent / "search_spaces"
    root = installed if installed.is_dir() else checkout
    files = sorted(root.rglob("*.yaml"))
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in files}


def find_search_file(name_or_path: str | Path) -> Path:
    """The search file at a path, or the shipped one of that name.

    Raises:
        ValueError: there is neither.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = shipped_search_files()
    name = path.as_posix().removesuffix(".yaml")
    if name in shipped:
        return shipped[name]
    same_end = [known for known in shipped if known.split("/")[-1] == name]
    hint = f", did you mean '{same_end[0]}'?" if same_end else did_you_mean(name, shipped) or "."
    raise ValueError(
        f"'{name_or_path}' is neither a file nor a search file that comes with mmtune{hint} "
        "List them with: mmtune list spaces"
    )


# --- the YAML tree, with a place for every key --------------------------------------------------------
def _read(path_or_text: str | Path) -> tuple[str, str, str | None]:
    """(source, text, file stem)"""
    if isinstance(path_or_text, str) and ("\n" in path_or_text or not path_or_text):
        return "search file", path_or_text, None
    source = str(path_or_text)
    try:
        return source, Path(path_or_text).read_bytes().decode(), Path(path_or_text).stem
    except FileNotFoundError:
        message = "does not exist"
    except IsADirectoryError:
        message = "is a directory"
    except UnicodeDecodeError:
        message = "is not text in UTF-8"
    except (OSError, ValueError) as error:
        message = f"cannot be read: {error}"
    raise SpecError(source, [Problem("file", None, message)])


class _Loader(yaml.SafeLoader):
    """Notes anchors and aliases instead of following them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.marked: list[tuple[int, str]] = []

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if event.anchor is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            self.marked.append((event.start_mark.line + 1, f"{sign}{event.anchor}"))
        if isinstance(event, yaml.AliasEvent):
            self.get_event()
            return yaml.ScalarNode("tag:yaml.org,2002:null", "", event.start_mark, event.end_mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """A line for each domain, as people write them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _OnOneLine(dict):
    pass


_Dumper.add_representer(
    _OnOneLine, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)
)


class _Tree:
    """YAML as plain values (timestamps stay strings), with the line of each path; collects what is wrong."""

    def __init__(self, text: str) -> None:
        self.data: Any = None  # also after a syntax error
        self.lines: dict[Path_, int] = {(): 1}
        self.words: dict[Path_, str] = {}  # booleans as they were written
        self.problems: list[tuple[Path_, str, int | None]] = []
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
            for line, anchor in loader.marked:
                self.problems.append(((), f"{anchor}: anchors and aliases are not allowed, write the values out", line))
            self.data = None if node is None else self._value(node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            is_tab = "'\\t'" in str(error.problem)
            message = "a tab; indent with spaces" if is_tab else ", ".join(filter(None, [error.context, error.problem]))
            self.problems.append(((), " ".join(message.split()), None if mark is None else mark.line + 1))
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            character: Any = error.character  # its code, as the text is no bytes
            self.problems.append(((), f"character #x{character:04x} is not allowed", line))
        except RecursionError:
            self.problems.append(((), "is nested too deeply", None))
        except (ValueError, OverflowError) as error:  # escapes beyond Unicode, absurd version numbers
            self.problems.append(((), f"is not valid YAML: {error}", None))

    def _value(self, node: yaml.Node, path: Path_) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            self.problems.append((path, f"the tag {node.tag} is not allowed", line))
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, i)) for i, item in enumerate(node.value)]
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, key = key_node.start_mark.line + 1, key_node.value
            if not isinstance(key, str):
                self.problems.append((path, "a key must be a word", line))
            elif key_node.tag == "tag:yaml.org,2002:merge":
                self.problems.append(((*path, key), "merge keys are not allowed, write the values out", line))
            elif key in values:
                first = self.lines[(*path, key)]
                self.problems.append(((*path, key), f"is given twice, first on line {first}", line))
            else:
                self.lines[(*path, key)] = line
                values[key] = self._value(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.ScalarNode, path: Path_) -> Any:
        build, text, line = yaml.constructor.SafeConstructor(), node.value, node.start_mark.line + 1
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        try:
            if kind == "null":
                return None
            if kind == "bool":
                self.words[path] = text
                return build.construct_yaml_bool(node)
            if kind in ("int", "float"):
                value = build.construct_yaml_int(node) if kind == "int" else build.construct_yaml_float(node)
                if ":" in text or re.fullmatch(r"[-+]?0[0-9_]+", text):
                    self.problems.append((path, f"YAML reads {text} as {show(value)}; write that, or quote it", line))
                return value
        except (ValueError, KeyError, IndexError, OverflowError):
            self.problems.append((path, f"{show(text)} cannot be read as {kind}", line))
            return None
        if kind not in ("str", "timestamp", "value", "merge"):
            self.problems.append((path, f"the tag {node.tag} is not allowed", line))
        if any("\ud800" <= character <= "\udfff" for character in text):
            self.problems.append((path, f"{show(text)} is not valid Unicode", line))
            return ""
        return text


class _Document:
    """A search file with its overrides: values, where each was written, and the problems so far."""

    def __init__(self, source: str, text: str) -> None:
        self.source, self.text = source, text
        self.is_changed = False
        tree = _Tree(text)
        self.places: dict[Path_, int | str] = {**tree.lines}  # a line, or the override
        self.words = tree.words
        self.problems: list[tuple[Path_, str, int | str | None, str | None]] = []
        for path, message, line in tree.problems:
            self.bad(path, message, key=None if path else "syntax", place=line)
        self.is_readable = isinstance(tree.data, dict)
        self.data: dict[str, Any] = tree.data if self.is_readable else {}
        if tree.data is None and not self.problems:
            self.bad((), "is empty", place=None)
        elif not self.is_readable and not self.problems:
            self.bad((), f"is {_kind(tree.data)}; a search file is a mapping of {', '.join(_TOP_KEYS[:3])}, ...")

    def bad(self, path: Path_, message: str, *, key: str | None = None, place: Any = ...) -> None:
        """Notes a problem at ``path``, or ``place`` where that has none."""
        self.problems.append((path, message, self.place(path) if place is ... else place, key))

    def place(self, path: Path_) -> int | str:
        """The line or the override that ``path``, or what contains it, comes from."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]

    def has_problem(self, path: Path_) -> bool:
        return any(other[: len(path)] == path for other, *_ in self.problems)

    def error(self) -> SpecError:
        """Everything noted, in the order of the file, overrides last."""
        unique = dict.fromkeys((key or _key(path), place, message) for path, message, place, key in self.problems)
        unique = sorted(unique, key=lambda problem: problem[1] if isinstance(problem[1], int) else math.inf)
        found = [Problem(key, place if isinstance(place, int) else None, message) for key, place, message in unique]
        return SpecError(self.source, found, [place if isinstance(place, str) else None for _, place, _ in unique])

    def override(self, text: str) -> None:
        """Applies one ``key=value``."""
        key, sign, value = (part.strip() for part in text.partition("="))
        place = f"--set {text}"
        if not sign or "" in key.split("."):
            self.bad((), "write key=value, such as budget.trials=4", key=key or "=", place=place)
        elif self.is_readable:
            tree = _Tree(value)
            for _, message, _ in tree.problems:
                self.bad((), message, key=key, place=place)
            path = self._target(key, tree.data, place) if not tree.problems else None
            if path is not None and self.put(path, tree.data, place):
                self.words.update({path + deeper: word for deeper, word in tree.words.items()})

    def put(self, path: Path_, value: Any, place: str) -> bool:
        """Sets what is at ``path``, mappings on the way made; None takes a key out of the space."""
        if not self.is_readable:
            return False
        here: Any = self.data
        for depth, part in enumerate(path):
            if (missing := _not_in(here, part)) is not None:
                self.bad(path[:depth], missing, place=place)
                return False
            if depth < len(path) - 1:
                if isinstance(part, str) and here.get(part) is None:
                    here[part] = {}
                    self.places[path[: depth + 1]] = place
                here = here[part]
        self.is_changed = True
        for known in [known for known in (*self.places, *self.words) if known[: len(path)] == path]:
            self.places.pop(known, None)
            self.words.pop(known, None)
        if path[0] == "space" and len(path) == 2 and value is None:
            here.pop(path[1], None)
        else:
            here[path[-1]] = value
            self.places[path] = place
        return True

    def _target(self, key: str, value: Any, place: str) -> Path_ | None:
        """The path that a dotted key means; keys under fixed, space, when and try_first contain dots themselves."""
        head, _, rest = key.partition(".")
        if not rest or head == "fixed":
            return (head, rest) if rest else (head,)
        if head in ("try_first", "objectives"):
            index, _, flat = rest.partition(".")
            if not _is_index(index):
                self.bad((head,), f"'{index}' is not the number of an entry: {head}.0, {head}.1, ...", place=place)
                return None
            return (head, int(index), flat) if flat else (head, int(index))
        if head == "family":
            return (head, *_in_domain(rest))
        if head != "space":
            return (head, *rest.split("."))
        searched = self.data.get("space")
        names = list(searched) if isinstance(searched, dict) else []
        matches = [name for name in names if rest == name or rest.startswith(f"{name}.")]
        if matches:
            name = max(matches, key=len)
            return (head, name, *_in_domain(rest[len(name) + 1 :]))
        if isinstance(value, dict | list):
            return (head, rest)
        self.bad((head, rest), f"is not in space{did_you_mean(rest, names)}", place=place)
        return None

    def final_text(self, study: str) -> str:
        """See :meth:`SearchSpec.to_yaml`."""
        if not self.is_changed and self.data.get("study") is not None:
            return self.text
        header = re.match(r"\ufeff?(?:[ \t]*(?:#[^\r\n]*)?(?:\r\n|\n|\Z))*", self.text)
        opening = header.group() if header else ""
        body = {"study": study, **{key: value for key, value in self.data.items() if key != "study"}}
        if not self.is_changed:
            text = f"{opening}study: {study}\n{self.text[len(opening) :]}"
            tree = _Tree(text)
            if not tree.problems and tree.data == body:
                return text
        options: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "width": 120, "allow_unicode": True}
        space = body.get("space") or {}
        lines = {k: [_OnOneLine(d) for d in v] if isinstance(v, list) else _OnOneLine(v) for k, v in space.items()}
        return opening + yaml.dump({**body, **({"space": lines} if lines else {})}, Dumper=_Dumper, **options)


def _not_in(here: Any, part: str | int) -> str | None:
    """Why ``here`` has no place for ``part``, None if it has."""
    if isinstance(part, str):
        return None if isinstance(here, dict) else f"is {_kind(here)}; there is no '{part}' in it"
    if isinstance(here, list):
        return None if part < len(here) else f"has {len(here)} entries, counted from 0; there is no {part}"
    return f"is {_kind(here)}; there is no entry {part} in it"


def _is_index(text: str) -> bool:
    return re.fullmatch("[0-9]{1,6}", text) is not None


def _in_domain(tail: str) -> Path_:
    """'low', '0.when.uda.mode', 'choices.1' as the rest of a path."""
    first, _, rest = tail.partition(".")
    if _is_index(first):
        return (int(first), *_in_domain(rest))
    if first == "when":
        return (first, rest) if rest else (first,)
    return tuple(int(part) if _is_index(part) else part for part in tail.split(".") if part)


def _key(path: Path_) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "file"


def _kind(value: Any) -> str:
    """'a list', 'a mapping', or the value."""
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "a mapping"
    return show(value)


# --- the sections -------------------------------------------------------------------------------------
class _Reader:
    """Turns a document into a SearchSpec, section by section."""

    def __init__(self, document: _Document) -> None:
        from trainables.data.formats import DATASETS
        from trainables.families import FAMILIES  # imports torch

        self.document, self.bad = document, document.bad
        self.data = document.data
        self.space_data: dict[str, Any] = {}
        self.known_families, self.known_datasets = tuple(FAMILIES), tuple(DATASETS)
        self.families: tuple[str, ...] = ()  # the ones named that there are
        self.is_family_searched = False
        self.fields = {family: _fields(family) for family in self.known_families}
        self.fixed: dict[str, Any] = {}
        self.domains: dict[str, tuple[Domain, ...]] = {}

    def spec(self, stem: str | None) -> SearchSpec:
        """The spec; SpecError if anything is wrong."""
        if not self.document.is_readable:
            raise self.document.error()
        self._known_keys((), self.data, _TOP_KEYS)
        study = self._study(stem)
        self._read_family()
        dataset = self._name("dataset", self.known_datasets)
        objectives = self._objectives()
        self._read_fixed()
        self._read_space()
        sampler, scheduler = self._sampler(), self._scheduler()
        budget, resources = self._budget(), self._resources()
        constants = {**self.fixed, "dataset": dataset}
        if not self.is_family_searched and self.families:
            constants["family"] = self.families[0]
        space = Space(self.domains, constants)
        is_sound = self._check_space(space)
        try_first = self._try_first(space if is_sound else None, budget)
        spec = SearchSpec(
            study=study,
            family=None if self.is_family_searched else "".join(self.families[:1]),
            families=self.families,
            dataset=dataset,
            objectives=objectives,
            fixed=self.fixed,
            space=space,
            try_first=try_first,
            sampler=sampler,
            scheduler=scheduler,
            budget=budget,
            resources=resources,
            source=self.document.source,
        )
        if is_sound and self.families and not self.document.has_problem(("family",)):
            self._check_corners(spec)
        if self.document.problems:
            raise self.document.error()
        object.__setattr__(spec, "warnings", tuple(self._warnings(spec)))
        object.__setattr__(spec, "text", self.document.final_text(study))
        return spec

    def _study(self, stem: str | None) -> str:
        name, rule = self.data.get("study"), "[a-z0-9][a-z0-9._-]*"
        if name is None:
            name = stem
            if stem is None:
                self.bad((), "is missing", key="study", place=None)
            elif not re.fullmatch(rule, stem):
                self.bad((), f"is missing, and the file's name '{stem}' does not fit {rule}", key="study", place=None)
        elif self._text(("study",), name) is not None and not re.fullmatch(rule, name):
            self.bad(("study",), f"{show(name)} does not fit {rule}: lower-case letters, digits, and . _ - inside")
        return str(name)

    def _read_family(self) -> None:
        value = self.data.get("family")
        if isinstance(value, dict):
            self.is_family_searched = True
            domain = self._domain(("family",), value, can_depend=False)
            if domain is None:
                return
            if isinstance(domain, Number):
                self.bad(("family", "type"), "a searched family is categorical")
                return
            for i, name in enumerate(domain.choices):
                path = ("family", "choices", i)
                if self._text(path, name) is not None and name not in self.known_families:
                    self.bad(path, unknown(name, self.known_families))
            self.families = tuple(name for name in domain.choices if name in self.known_families)
            self.domains["family"] = (domain,)
        elif isinstance(value, list):
            self.bad(("family",), "is a list; to search it write {type: categorical, choices: [...]}")
        else:
            name = self._name("family", self.known_families)
            self.families = (name,) if name in self.known_families else ()
        if self.families:
            self.fields = {family: self.fields[family] for family in self.families}

    def _name(self, key: str, known: Collection[str]) -> str:
        """A top-level name that must be there and be known."""
        value = self.data.get(key)
        if value is None:
            self.bad((key,), f"is missing. Known: {', '.join(known)}", place=None if key not in self.data else ...)
        elif self._text((key,), value) is not None and value not in known:
            self.bad((key,), unknown(value, known))
        return value if isinstance(value, str) else ""

    def _objectives(self) -> tuple[Objective, ...]:
        entries = self._list("objectives", "{metric: val_accuracy, mode: max}")
        if entries is None:
            return (Objective("val_accuracy", "max"),)
        if not entries:
            self.bad(("objectives",), "is empty; give at least one {metric: ..., mode: ...}")
        both, objectives = {**METRICS, **COSTS}, []
        for i, entry in enumerate(entries):
            path = ("objectives", i)
            if not isinstance(entry, dict):
                self.bad(path, f"is {_kind(entry)}; write {{metric: val_accuracy, mode: max}}")
                continue
            self._known_keys(path, entry, ("metric", "mode"))
            metric, mode = entry.get("metric"), entry.get("mode")
            if metric is None:
                if not self.document.has_problem(path):
                    self.bad(path, f"has no metric. Known: {', '.join(both)}")
                continue
            if self._text((*path, "metric"), metric) is None:
                continue
            if metric not in both:
                self.bad((*path, "metric"), unknown(metric, both))
                continue
            if i == 0 and metric not in METRICS:
                allowed = ", ".join(METRICS)
                self.bad((*path, "metric"), f"'{metric}' is a cost; the first objective is one of {allowed}")
            if any(metric == other.metric for other in objectives):
                self.bad((*path, "metric"), f"'{metric}' is there already")
            own = both[metric][0]
            if "mode" in entry and mode != own:
                given = f"'{metric}' is better when {'larger' if own == 'max' else 'smaller'}"
                self.bad((*path, "mode"), f"{show(mode)} is wrong: {given}, write {own}")
            objectives.append(Objective(metric, own))
        return tuple(objectives) or (Objective("val_accuracy", "max"),)

    def _read_fixed(self) -> None:
        for key, value in self._section("fixed").items():
            path = ("fixed", key)
            if key in _NOT_FIXED:
                self.bad(path, _NOT_FIXED[key])
                continue
            problem = self._field_problem(key, self.families, is_fixed=True)
            if problem is None and isinstance(value, dict):
                problem = f"is a mapping; a value is expected for {key}"
            if problem is None:
                problem = self._value_problem(key, value, self.families, path)
            if problem is not None:
                self.bad(path, problem)
            self.fixed[key] = self._as_float(key, value)

    def _read_space(self) -> None:
        parsed: list[tuple[Path_, str, Domain]] = []
        self.space_data = self._section("space")
        for key, value in self.space_data.items():
            path = ("space", key)
            if key in _NOT_SEARCHED:
                self.bad(path, _NOT_SEARCHED[key])
                continue
            if key in self.fixed:
                how = f" (on the command line: --set space.{key}=null)"
                self.bad(path, f"is both fixed and searched; take it out of one{how}")
            if isinstance(value, list) and not value:
                self.bad(path, "is an empty list; give a domain, or several with a `when` each")
            many = value if isinstance(value, list) else [value]
            alternatives: list[Domain] = []
            for i, one in enumerate(many):
                at = (*path, i) if isinstance(value, list) else path
                if (domain := self._domain(at, one)) is not None:
                    alternatives.append(domain)
                    parsed.append((at, key, domain))
            if alternatives and len(alternatives) == len(many):
                self.domains[key] = tuple(alternatives)
            elif (problem := self._field_problem(key, self.families)) is not None:
                self.bad(path, problem)
        for path, key, domain in parsed:
            families = self._families_of(domain, frozenset())
            problem = self._field_problem(key, families)
            if problem is not None:
                if not any(self.document.has_problem(("space", other)) for other in domain.when):
                    self.bad(path, problem)
            else:
                self._check_ends(path, key, domain, families)

    def _domain(self, path: Path_, value: Any, *, can_depend: bool = True) -> Domain | None:
        """One domain; None, with a problem noted, if it is not understood."""
        if not isinstance(value, dict):
            self.bad(path, f"is {_kind(value)}; a domain is such as {{type: float, low: 0.0, high: 1.0}}")
            return None
        kinds, before = ("float", "int", "categorical"), len(self.document.problems)
        kind = value.get("type")
        if kind is None:
            self.bad(path, f"has no type: {', '.join(kinds)}")
        elif self._text((*path, "type"), kind) is not None and kind not in kinds:
            self.bad((*path, "type"), unknown(kind, kinds))
        number_keys, depend = ("low", "high", "log", "step", "at_most"), ("when",) if can_depend else ()
        if kind not in kinds:
            self._known_keys(path, value, ("type", *number_keys, "choices", *depend))
            return None
        own, other = (("choices",), number_keys) if kind == "categorical" else (number_keys, ("choices",))
        self._known_keys(path, {k: v for k, v in value.items() if k not in other}, ("type", *own, *depend))
        for key in other:
            if key in value:
                self.bad((*path, key), f"has no meaning for type: {kind}")
        for key in ("choices",) if kind == "categorical" else ("low", "high"):
            if key not in value and len(self.document.problems) == before:
                self.bad(path, f"has no {key}")
        when = self._when((*path, "when"), value.get("when")) if can_depend else {}
        if kind == "categorical" and "choices" not in value:
            return None
        if kind == "categorical":
            domain = self._categorical((*path, "choices"), value.get("choices"), when)
        else:
            domain = self._number(path, value, kind == "int", when)
        return domain if len(self.document.problems) == before else None

    def _categorical(self, path: Path_, choices: Any, when: dict[str, tuple[Any, ...]]) -> Domain | None:
        if not isinstance(choices, list):
            self.bad(path, f"is {_kind(choices)}; a list is expected")
            return None
        for i, choice in enumerate(choices):
            if isinstance(choice, dict | list):
                self.bad((*path, i), f"is {_kind(choice)}; a choice is a string, a number, true, false or null")
            elif isinstance(choice, float) and (problem := number_problem(choice)) is not None:
                self.bad((*path, i), problem)
        return Categorical(tuple(choices), when)

    def _number(self, path: Path_, value: dict[str, Any], is_int: bool, when: Mapping[str, Any]) -> Domain | None:
        ends: dict[str, Any] = {}
        for key in ("low", "high", "step"):
            given = value.get(key)
            if given is None and (key == "step" or key not in value):
                ends[key] = None
            elif self._is_number(given, (*path, key), is_int=is_int):
                ends[key] = given if is_int else float(given)
        log = self._flag((*path, "log"), value.get("log", False))
        at_most = value.get("at_most")
        if at_most is not None:
            self._text((*path, "at_most"), at_most)
        if any(ends.get(key) is None for key in ("low", "high")):
            return None
        return Number(**ends, is_int=is_int, log=log, when=when, at_most=at_most) if "step" in ends else None

    def _when(self, path: Path_, value: Any) -> dict[str, tuple[Any, ...]]:
        if value is None:
            return {}
        if not isinstance(value, dict) or not value:
            self.bad(path, f"is {_kind(value) if value != {} else 'empty'}; write {{other_key: [values]}}")
            return {}
        when: dict[str, tuple[Any, ...]] = {}
        for key, allowed in value.items():
            many = allowed if isinstance(allowed, list) else [allowed]
            if not many:
                self.bad((*path, key), "is empty; give at least one value")
            if any(isinstance(one, dict | list) for one in many):
                self.bad((*path, key), "a value, or a list of values, is expected")
            when[key] = tuple(one for one in many if not isinstance(one, dict | list))
            if key == "family" and self.is_family_searched:  # one that is left out of this search is no mistake
                left_out = set(self.known_families) - set(self.families)
                when[key] = tuple(one for one in when[key] if one not in left_out)
        return when

    def _sampler(self) -> SamplerSpec:
        section = self._section("sampler")
        name = self._choice("sampler", section, "name", SAMPLER_NAMES, "tpe")
        options = SAMPLER_OPTIONS.get(name, {})
        if name in SAMPLER_OPTIONS:
            self._known_keys(("sampler",), section, ("name", "seed", *options))
        seed = self._whole("sampler", section, "seed", 1, at_least=0)
        given = {key: value for key, value in section.items() if key in options}
        for key, value in given.items():
            path, kind = ("sampler", key), options[key]
            if kind is bool:
                self._flag(path, value)
            elif kind is str:
                self._text(path, value)
            elif self._is_number(value, path, is_int=kind is int) and value < 0:
                self.bad(path, f"{show(value)} must be at least 0")
        if name == "brute_force":
            floats = {
                k for k, ds in self.domains.items() for d in ds if isinstance(d, Number) and not d.is_int and not d.step
            }
            if floats:
                without = ", ".join(key for key in self.domains if key in floats)
                self.bad(("sampler", "name"), f"'brute_force' needs a step in each float; without one: {without}")
        return SamplerSpec(name, seed, given)

    def _scheduler(self) -> SchedulerSpec:
        section = self._section("scheduler")
        name = self._choice("scheduler", section, "name", SCHEDULER_NAMES, "asha")
        options = ("grace_epochs", "reduction_factor", "brackets")
        self._known_keys(("scheduler",), section, ("name", *options))
        if name == "none":
            for key in options:
                if key in section:
                    whole = "or replace it all: --set 'scheduler={name: none}'"
                    self.bad(("scheduler", key), f"has no effect with name: none; take it out ({whole})")
        default = SchedulerSpec()
        grace = self._whole("scheduler", section, "grace_epochs", default.grace_epochs, at_least=1)
        factor = self._whole("scheduler", section, "reduction_factor", default.reduction_factor, at_least=2)
        brackets = self._whole("scheduler", section, "brackets", default.brackets, at_least=1)
        epochs = self.fixed.get("epochs", TrialConfig.model_fields["epochs"].default)
        is_known = not self.document.has_problem(("fixed", "epochs"))
        if is_known and name == "asha" and grace > epochs:
            self.bad(("scheduler", "grace_epochs"), f"{grace} is above the epochs of a trial ({epochs})")
        return SchedulerSpec(name, grace, factor, brackets)

    def _budget(self) -> Budget:
        section = self._section("budget")
        self._known_keys(("budget",), section, ("trials", "device_hours", "wall_hours"))
        if all(value is None for value in section.values()) and not self.document.has_problem(("budget",)):
            place = ... if "budget" in self.data else None
            self.bad(("budget",), "is missing: give trials, device_hours or wall_hours", place=place)
        trials = self._whole("budget", section, "trials", None, at_least=1)
        hours: dict[str, float | None] = {}
        for key in ("device_hours", "wall_hours"):
            hours[key] = value = section.get(key)
            if value is not None and self._is_number(value, ("budget", key)):
                hours[key] = float(value)
                if value <= 0:
                    self.bad(("budget", key), f"{show(value)} must be above 0")
        return Budget(trials, **hours)

    def _resources(self) -> Resources:
        section, default = self._section("resources"), Resources()
        names = tuple(Resources.__dataclass_fields__)
        self._known_keys(("resources",), section, names)
        shares = {}
        for key, lowest, highest in (("cpus_per_worker", 0, 1e6), ("gpus_per_worker", 0, 1)):
            value = section.get(key)
            shares[key] = getattr(default, key)
            if value is not None and self._is_number(value, ("resources", key)):
                shares[key] = float(value)
                if not lowest <= value <= highest:
                    why = "; a worker drives one device, give more workers" if key == "gpus_per_worker" else ""
                    self.bad(("resources", key), f"{show(value)} is not in {lowest} to {highest:g}{why}")
        concurrent: Any = section.get("concurrent_trials", "auto")
        if concurrent != "auto" and not isinstance(concurrent, int | float):
            self.bad(("resources", "concurrent_trials"), f"{_kind(concurrent)} is neither auto nor a whole number")
        elif concurrent != "auto":
            self._whole("resources", section, "concurrent_trials", "auto", at_least=1)
        retries = self._whole("resources", section, "max_trial_retries", default.max_trial_retries, at_least=0)
        return Resources(
            workers=self._whole("resources", section, "workers", default.workers, at_least=1),
            **shares,
            concurrent_trials=concurrent if isinstance(concurrent, int) else "auto",
            isolation=self._choice("resources", section, "isolation", ("slot", "process"), default.isolation),
            max_trial_retries=retries,
        )

    # --- the space as a whole ------------------------------------------------------------------------
    def _check_space(self, space: Space) -> bool:
        """Notes what is wrong with domains and conditions; whether the space can be used."""
        asked = {*self.space_data, *(["family"] if self.is_family_searched else [])}
        broken = asked - set(self.domains)  # have their problems already; a reference to them is no new one
        problems = space.problems()
        doubtful = {key for key in self.space_data if self.document.has_problem(("space", key))}
        doubtful |= broken | {problem.key for problem in problems if problem.refers_to is None}
        for key, index, part, message, refers_to in problems:
            if refers_to in doubtful:
                continue
            section: Path_ = ("family",) if key == "family" else ("space", key)
            if index is not None and isinstance(self.space_data.get(key), list):
                section = (*section, index)
            path = (*section, *part)
            for word in self._odd_words(path) if "when" in part else ():
                message += f" (YAML reads {word}; quote it)"
            self.bad(path, message)
        for key, domains in self.domains.items():
            for i, domain in enumerate(domains):
                self._check_constants(key, i, domain)
        return not broken and not problems

    def _check_constants(self, key: str, index: int, domain: Domain) -> None:
        """A condition on a fixed value must ask for values that it could have."""
        for other, allowed in domain.when.items():
            if other in self.domains or not (other in self.fixed or other in ("family", "dataset")):
                continue
            is_list = isinstance(self.space_data[key], list)
            path = ("space", key, *((index,) if is_list else ()), "when", other)
            known = {"family": self.known_families, "dataset": self.known_datasets}.get(other)
            for value in allowed:
                if known is not None:
                    problem = None if value in known else unknown(value, known)
                else:
                    problem = self._value_problem(other, value, self.families, path)
                if problem is not None:
                    self.bad(path, problem)

    def _try_first(self, space: Space | None, budget: Budget) -> tuple[Mapping[str, Any], ...]:
        rows = self._list("try_first", "{optim.lr: 5.0e-5}") or []
        if isinstance(budget.trials, int) and len(rows) > max(budget.trials, 1):
            self.bad(("try_first",), f"has {len(rows)} trials, more than budget.trials ({budget.trials})")
        good = []
        for i, row in enumerate(rows):
            path = ("try_first", i)
            if not isinstance(row, dict):
                self.bad(path, f"is {_kind(row)}; write {{optim.lr: 5.0e-5}}")
                continue
            if not row:
                self.bad(path, "is empty")
            for key, message in space.check(row) if space is not None else self._not_searched(row):
                if self.document.has_problem(("space", key)):
                    continue
                for word in self._odd_words((*path, key)):
                    message += f" (YAML reads {word}; quote it)"
                self.bad((*path, key), message)
            good.append({key: self._as_number(key, value) for key, value in row.items()})
        return tuple(good)

    def _not_searched(self, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What can be said about a row while the space is in doubt."""
        searched = [*self.space_data, *(["family"] if self.is_family_searched else [])]
        return [(key, f"is not searched{did_you_mean(key, searched)}") for key in row if key not in searched]

    def _as_number(self, key: str, value: Any) -> Any:
        """``value`` as a float where its domain is one."""
        domains = self.domains.get(key, ())
        is_float = all(isinstance(domain, Number) and not domain.is_int for domain in domains)
        return float(value) if domains and is_float and number_problem(value) is None else value

    def _check_corners(self, spec: SearchSpec) -> None:
        """A TrialConfig for each corner of the space; the first thing wrong with each key is noted."""
        seen: set[str] = set()
        for corner in spec.space.corners():
            params = spec.config_params(corner)
            for key, message in _config_problems(params, _fields(params["family"])):
                if key in seen or message == _UNKNOWN_KEY:  # keys are checked by now
                    continue
                seen.add(key)
                paths = (("space", key), ("fixed", key), (key,))
                where = next((path for path in paths if path in self.document.places), None)
                if where is None:
                    self.bad(("fixed",) if "fixed" in self.data else (), message, key=key)
                elif not self.document.has_problem(where):
                    self.bad(where, message)

    def _warnings(self, spec: SearchSpec) -> Iterator[str]:
        for key, index in spec.space.unreachable:
            which = f", alternative {index + 1}," if len(spec.space.domains[key]) > 1 else ""
            yield f"space.{key}{which} never exists: nothing that is searched or fixed fulfils its `when`"
        modes: list[Any] = [spec.fixed.get("uda.mode")]
        for domain in spec.space.domains.get("uda.mode", ()):
            modes += domain.choices if isinstance(domain, Categorical) else []
        grace = spec.scheduler.grace_epochs
        if spec.scheduler.name == "asha" and {"fixed", "dynamic"} & set(modes) and grace < min(_UDA_GRACE, spec.epochs):
            yield (
                f"scheduler.grace_epochs: {grace} lets ASHA judge UDA trials before their regulariser acts "
                f"(dynamic lambda starts at epoch 2); give at least {_UDA_GRACE} (METHODS D48)"
            )

    # --- keys and values against TrialConfig -----------------------------------------------------------
    def _families_of(self, domain: Domain, seen: frozenset[str]) -> tuple[str, ...]:
        """The families under which a domain can exist."""
        families = self.families
        for key, allowed in domain.when.items():
            if key == "family":
                families = tuple(family for family in families if family in allowed)
            elif key in self.domains and key not in seen:
                among = [self._families_of(other, seen | {key}) for other in self.domains[key]]
                families = tuple(family for family in families if any(family in some for some in among))
        return families

    def _field_problem(self, key: str, families: Sequence[str], *, is_fixed: bool = False) -> str | None:
        """Why ``key`` sets nothing, None if it sets a field in each of ``families``."""
        anywhere = {name for fields in self.fields.values() for name in fields}
        has = [family for family in families if key in self.fields.get(family, ())]
        if has and len(has) == len(families):
            return None
        if has:
            lacks = ", ".join(family for family in families if family not in has)
            when = f"when: {{family: [{', '.join(has)}]}}"
            how = f"search it with one choice and {when}" if is_fixed else f"add {when}"
            return f"family {lacks} has no such key; {how}"
        if not families and (key in anywhere or key.startswith("model.")):
            return None  # never exists, or the family is not known
        if any(name.startswith(f"{key}.") for name in anywhere):
            example = next(name for name in sorted(anywhere) if name.startswith(f"{key}."))
            return f"is a section; write flat keys such as {example}"
        section = key.rpartition(".")[0]
        allowed = sorted(name for family in families or self.fields for name in self.fields[family])
        near = [name for name in allowed if name.rpartition(".")[0] == section] if section else []
        names = list(dict.fromkeys(near if near else allowed))
        hint = did_you_mean(key, names) or did_you_mean(key, allowed) or _same_leaf(key, allowed)
        if hint:
            return f"unknown key{hint}"
        few = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        return f"unknown key. Known: {few}"

    def _check_ends(self, path: Path_, key: str, domain: Domain, families: Sequence[str]) -> None:
        """Each end of a range, each choice, as a value of the field."""
        if isinstance(domain, Categorical):
            values = [((*path, "choices", i), choice) for i, choice in enumerate(domain.choices)]
        else:
            annotations = [self.fields[family][key] for family in families]
            if not domain.is_int and any(int in _types(a) and float not in _types(a) for a in annotations):
                self.bad((*path, "type"), f"{key} is a whole number; write type: int")
                return
            values = [((*path, "low"), domain.low), ((*path, "high"), domain.high)]
        for at, value in values:
            if (problem := self._value_problem(key, value, families, at)) is not None:
                self.bad(at, problem)

    def _value_problem(self, key: str, value: Any, families: Sequence[str], path: Path_) -> str | None:
        """Why the field ``key`` cannot be ``value``, judged alone."""
        if not families and not key.startswith("model."):
            families = tuple(self.fields)[:1]  # the family is not known; all share these keys
        for family in families:
            fields = self.fields[family]
            if key not in fields:
                continue
            base = {"family": family, "dataset": "x", key: value}
            for found, message in _config_problems(_with_floats(base, fields), fields):
                if found == key:
                    words = self._odd_words(path) if _literals(fields[key]) or str in _types(fields[key]) else ()
                    return f"YAML reads {words[0]}; quote it. {message}" if words else message
        return None

    def _odd_words(self, path: Path_) -> list[str]:
        """'no as false' for booleans at or below ``path`` that were written in other words than true and false."""
        found = []
        for at, word in self.document.words.items():
            if at[: len(path)] == path and word.lower() not in ("true", "false"):
                found.append(f"{word} as {'true' if word.lower() in ('yes', 'on', 'y') else 'false'}")
        return found

    def _as_float(self, key: str, value: Any) -> Any:
        for fields in self.fields.values():
            if key in fields:
                return _with_floats({key: value}, fields)[key]
        return value

    # --- values of the spec itself ----------------------------------------------------------------------
    def _section(self, key: str) -> dict[str, Any]:
        value = self.data.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.bad((key,), f"is {_kind(value)}; a mapping is expected")
            return {}
        return value

    def _list(self, key: str, example: str) -> list[Any] | None:
        value = self.data.get(key)
        if value is not None and not isinstance(value, list):
            self.bad((key,), f"is {_kind(value)}; a list is expected: [{example}]")
            return None
        return value

    def _known_keys(self, path: Path_, given: Mapping[str, Any], known: Sequence[str]) -> None:
        for key in given:
            if key not in known:
                hint = did_you_mean(key, known) or "."
                self.bad((*path, key), f"unknown key{hint} Known: {', '.join(known)}")

    def _text(self, path: Path_, value: Any) -> str | None:
        if isinstance(value, str):
            return value
        words = self._odd_words(path)
        told = f"YAML reads {words[0]}; quote it" if words else f"is {_kind(value)}; a string is expected"
        self.bad(path, told)
        return None

    def _flag(self, path: Path_, value: Any) -> bool:
        if not isinstance(value, bool):
            self.bad(path, f"{_kind(value)} is neither true nor false")
        return value is True

    def _is_number(self, value: Any, path: Path_, *, is_int: bool = False) -> TypeGuard[float]:
        problem = f"is {_kind(value)}; a number is expected" if isinstance(value, dict | list) else None
        problem = problem or number_problem(value, is_int=is_int)
        if problem is not None:
            self.bad(path, problem)
        return problem is None

    def _whole(self, section: str, given: Mapping[str, Any], key: str, default: Any, *, at_least: int) -> Any:
        """A whole number of a section; the default also after a problem."""
        value = given.get(key)
        if value is None or not self._is_number(value, (section, key), is_int=True):
            return default
        if value < at_least:
            self.bad((section, key), f"{show(value)} must be at least {at_least}")
        return value

    def _choice(self, section: str, given: Mapping[str, Any], key: str, known: Sequence[str], default: str) -> str:
        value = given.get(key)
        if value is None or self._text((section, key), value) is None:
            return default
        if value not in known:
            self.bad((section, key), unknown(value, known))
        return value


# --- TrialConfig as flat keys -------------------------------------------------------------------------
def _fields(family: str) -> dict[str, Any]:
    """Flat key -> annotation of everything that a TrialConfig of this family can be given."""
    from trainables.families import family_config

    flat = {**_flat(TrialConfig, ""), **_flat(family_config(family), "model.")}
    return {key: kind for key, kind in flat.items() if key != "model"}


def _flat(section: type[BaseModel], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, info in section.model_fields.items():
        kind: Any = info.annotation
        is_section = isinstance(kind, type) and issubclass(kind, BaseModel)
        flat.update(_flat(kind, f"{prefix}{name}.") if is_section else {f"{prefix}{name}": kind})
    return flat


def _types(annotation: Any) -> set[Any]:
    return set(get_args(annotation)) or {annotation}


def _with_floats(params: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """``params`` with whole numbers as floats where the field is one: TrialConfig is strict, YAML's 1 is an int."""
    made = dict(params)
    for key, value in params.items():
        kinds = _types(fields.get(key))
        if type(value) is int and float in kinds and int not in kinds and number_problem(value) is None:
            made[key] = float(value)
    return made


def _config_problems(params: dict[str, Any], fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What TrialConfig says to ``params``, as (flat key, message in our words)."""
    try:
        TrialConfig.from_params(params)
    except ValidationError as error:
        return [_explain(detail, fields, params) for detail in error.errors(include_url=False)]
    return []


def _explain(detail: Any, fields: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[str, str]:
    location = [str(part) for part in detail["loc"]]
    keys = [".".join(location[:end]) for end in range(len(location), 0, -1)]
    # What the family's own Config refuses arrives without "model." in front.
    keys = [name for key in keys for name in ((f"model.{key}", key) if key not in params else (key, f"model.{key}"))]
    key = next((key for key in keys if key in fields or key in params), ".".join(location))
    kind, context, value = detail["type"], detail.get("ctx", {}), detail.get("input")
    given = _kind(value)
    if kind == "value_error":
        message = str(context.get("error", detail["msg"]))
        named = re.match(r"([a-z_][\w.]*): ", message)
        if not key and named and named[1] in fields:
            return named[1], message[named.end() :]
        return key or "fixed", message
    for name, words in (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most")):
        if name in context:
            return key, f"{given} must be {words} {show(context[name])}"
    if kind == "literal_error":
        known = [value for part in (fields.get(key), *get_args(fields.get(key))) for value in _literals(part)]
        return key, unknown(value, list(dict.fromkeys(known)))
    if kind in ("float_type", "int_type", "finite_number"):
        return key, number_problem(value, is_int=kind == "int_type") or f"{given} is not a number"
    if kind == "missing":
        return key, f"is missing, family {params.get('family')} needs it"
    words = {"bool_type": "neither true nor false", "string_type": "not a string", "extra_forbidden": "unknown"}
    if kind in words:
        return key, f"{given} is {words[kind]}" if kind != "extra_forbidden" else _UNKNOWN_KEY
    return key, f"{given}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"


def _literals(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if getattr(annotation, "__origin__", None) is Literal else ()


def _same_leaf(key: str, known: Sequence[str]) -> str:
    """', did you mean 'optim.lr'?' for 'lr' or 'learning.lr'."""
    leaves = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(key.rpartition(".")[2], leaves, n=1, cutoff=0.75)
    return f", did you mean '{leaves[close[0]]}'?" if close else ""
