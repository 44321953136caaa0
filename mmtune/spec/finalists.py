"""``finalists:`` and ``seeds:`` of a search file: configurations, each trained on every seed, in place of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmtune.space.domains import Categorical, Domain
from mmtune.space.space import Space
from mmtune.spec.configkeys import ConfigKeys, config_problems
from mmtune.spec.document import Document
from mmtune.spec.sections import NOT_FIXED
from mmtune.spec.validation import with_floats
from trainables.messages import describe, show, unknown

FINALIST, SEED = "finalist", "seed"  # what tells the trials of such a study apart: their params
_NO_EFFECT = ("space", "try_first", "sampler", "scheduler", "confirm")
_SAME_FOR_ALL = ("target", "positive_class")
_MOST = 1000  # names, and seeds


@dataclass(frozen=True)
class Finalists:
    """What is trained.

    Attributes:
        settings: of each finalist by name, beside what is fixed; without its family.
        space: the family where there are several, the finalist, the seed.
        rows: a trial each: every finalist on the first seed, then on the next.
    """

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    space: Space = field(default_factory=lambda: Space({}))
    rows: Sequence[Mapping[str, Any]] = ()


class FinalistsSection:
    """Reads both keys of one file.

    Args:
        document: the file.
        keys: the config fields of its families.
        family: the domain of a family that the finalists name; None where it is one for all.
        fixed: what is fixed.
    """

    def __init__(
        self, document: Document, keys: ConfigKeys, *, family: Categorical | None, fixed: Mapping[str, Any]
    ) -> None:
        self.document, self.bad, self.keys, self.family, self.fixed = document, document.bad, keys, family, fixed

    def read(self) -> Finalists:
        """The finalists; what is wrong is noted."""
        for key in _NO_EFFECT:
            if self.document.data.get(key) is not None:
                self.bad((key,), "has no effect beside finalists, whose settings and seeds are given; take it out")
        if SEED in self.fixed:
            self.bad(("fixed", SEED), "has no effect beside finalists; give seeds: [...]")
        seeds, given = self._seeds(), self.document.section("finalists")
        if not given:
            self.bad(("finalists",), "is empty; give {name: {optim.lr: 1.0e-3, ...}}")
        if len(given) > _MOST:
            self.bad(("finalists",), f"has {len(given):,} configurations, at most {_MOST:,}")
            return Finalists()
        families, settings = {}, {}
        for name, row in given.items():
            if not isinstance(row, dict):
                self.bad(("finalists", name), f"is {describe(row)}; write {{optim.lr: 1.0e-3}}")
                continue
            families[name], settings[name] = self._family(name, row), self._settings(name, row)
        for choice in () if self.family is None else self.family.choices:
            if choice not in families.values() and not self.document.has_problem(("finalists",)):
                self.bad(("family", "choices"), f"no finalist is of family '{choice}'")
        if not settings or not seeds or self.document.has_problem(("finalists",)):
            return Finalists()
        return Finalists(settings, self._space(families, seeds), self._rows(families, seeds))

    def _seeds(self) -> list[int]:
        seeds, path = self.document.entries("seeds", example="2, 3, 4, 5, 6") or [], ("seeds",)
        if not seeds and not self.document.has_problem(path):
            self.bad(path, "is missing: give the seeds that each finalist is trained on, such as [2, 3, 4, 5, 6]")
        if len(seeds) > _MOST:
            self.bad(path, f"has {len(seeds):,} seeds, at most {_MOST:,}")
        for i, seed in enumerate(seeds):
            problem = self.keys.value_problem(SEED, seed, self.keys.families)
            if problem is None and seed in seeds[:i]:
                problem = f"{show(seed)} is there already"
            if problem is not None:
                self.bad((*path, i), problem)
        return [] if self.document.has_problem(path) else seeds

    def _family(self, name: str, row: Mapping[str, Any]) -> str | None:
        """The finalist's own; None where it is one for all."""
        if self.family is None:
            return None
        path, family = ("finalists", name, "family"), row.get("family")
        if family is None:
            self.bad(path[:-1], f"has no family. Known: {', '.join(map(str, self.family.choices))}")
        elif family not in self.family.choices:
            self.bad(path, unknown(family, self.family.choices))
        return family

    def _settings(self, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
        family = row.get("family") if self.family is not None else None
        families = self.keys.families if family is None else tuple(one for one in self.keys.families if one == family)
        settings = {}
        for key, value in row.items():
            path = ("finalists", name, key)
            if key == "family" and self.family is not None:
                continue
            problem = self._key_problem(key, families)
            if problem is None:
                problem = self.keys.value_problem(key, value, families, self.document.odd_words(path))
            if problem is not None:
                self.bad(path, problem)
            settings[key] = self.keys.as_float(key, value)
        if len(families) == 1 and not self.document.has_problem(("finalists", name)):
            self._check_together(name, families[0], settings)
        return settings

    def _key_problem(self, key: str, families: Sequence[str]) -> str | None:
        if key in self.fixed:
            return "is both fixed and a finalist's; take it out of one"
        if key == SEED:
            return "is one of seeds, the same for all finalists"
        if key in _SAME_FOR_ALL:
            return "must be the same for all, scores on different labels do not compare; put it under fixed"
        return NOT_FIXED.get(key) or self.keys.key_problem(key, families)

    def _check_together(self, name: str, family: str, settings: Mapping[str, Any]) -> None:
        """What does not fit together in the config of a finalist."""
        fields = self.keys.fields[family]
        known = {key: value for key, value in {**self.fixed, **settings}.items() if key in fields}
        params = with_floats({"family": family, "dataset": "x", **known}, fields)
        for key, message in config_problems(params, fields):
            self.bad(("finalists", name, *([key] if key in settings else [])), message)

    def _space(self, families: Mapping[str, str | None], seeds: Sequence[int]) -> Space:
        domains: dict[str, tuple[Domain, ...]] = {SEED: (Categorical(tuple(seeds)),)}
        if self.family is None:
            return Space({FINALIST: (Categorical(tuple(families)),), **domains})
        of = {choice: tuple(name for name, one in families.items() if one == choice) for choice in self.family.choices}
        alternatives = tuple(Categorical(names, when={"family": (choice,)}) for choice, names in of.items())
        return Space({"family": (self.family,), FINALIST: alternatives, **domains})

    def _rows(self, families: Mapping[str, str | None], seeds: Sequence[int]) -> list[dict[str, Any]]:
        return [
            {**({} if family is None else {"family": family}), FINALIST: name, SEED: seed}
            for seed in seeds
            for name, family in families.items()
        ]
