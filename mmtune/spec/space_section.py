"""``space:`` and ``try_first:`` of a search file, checked against the config's fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmtune.space.assignments import check
from mmtune.space.domains import Categorical, Domain, Number
from mmtune.space.problems import problems_of
from mmtune.space.space import Space
from mmtune.spec.configkeys import ConfigKeys
from mmtune.spec.document import Document
from mmtune.spec.domains import read_domain
from mmtune.spec.sections import NOT_SEARCHED
from trainables.messages import describe, did_you_mean, number_problem, unknown
from trainables.yamltree import YamlPath

_MOST_KEYS = 1000  # more are no search, and take minutes to look at


class SpaceSection:
    """The space of one search file.

    Args:
        document: the file.
        keys: the config fields of its families.
        family: the domain of a searched family; None when the family is fixed or not understood.
        fixed: what is fixed.
        known: the families and datasets there are, by 'family' and 'dataset'.
    """

    def __init__(
        self,
        document: Document,
        keys: ConfigKeys,
        *,
        family: Categorical | None,
        fixed: Mapping[str, Any],
        known: Mapping[str, Sequence[str]],
    ) -> None:
        self.document, self.bad = document, document.bad
        self.keys, self.fixed, self.known = keys, fixed, known
        self.is_family_searched = isinstance(document.data.get("family"), dict)
        self.data = document.section("space")
        self.domains: dict[str, tuple[Domain, ...]] = {} if family is None else {"family": (family,)}

    def read(self) -> Space | None:
        """The space; None, with problems noted, if it cannot be used."""
        if len(self.data) > _MOST_KEYS:
            self.bad(("space",), f"has {len(self.data):,} parameters, at most {_MOST_KEYS:,}")
            return None
        self._read_domains()
        constants = {**self.fixed, "dataset": self.document.data.get("dataset")}
        if not self.is_family_searched and self.keys.families:
            constants["family"] = self.keys.families[0]
        space = Space(self.domains, constants)
        return space if self._check(space) else None

    def _read_domains(self) -> None:
        parsed: list[tuple[YamlPath, str, Domain]] = []
        left_out = set(self.known["family"]) - set(self.keys.families) if self.is_family_searched else ()
        for key, value in self.data.items():
            path = ("space", key)
            if key in NOT_SEARCHED:
                self.bad(path, NOT_SEARCHED[key])
                continue
            if key in self.fixed:
                how = f" (on the command line: --set space.{key}=null)"
                self.bad(path, f"is both fixed and searched; take it out of one{how}")
            if isinstance(value, list) and not value:
                self.bad(path, "is an empty list; give a domain, or several with a `when` each")
            many = value if isinstance(value, list) else [value]
            alternatives: list[Domain] = []
            for i, one in enumerate(many):
                at = self._path(key, i)
                if (domain := read_domain(self.document, at, one, left_out=left_out)) is not None:
                    alternatives.append(domain)
                    parsed.append((at, key, domain))
            if alternatives and len(alternatives) == len(many):
                self.domains[key] = tuple(alternatives)
            elif (problem := self.keys.key_problem(key, self.keys.families)) is not None:
                self.bad(path, problem)
        for path, key, domain in parsed:
            families = self._families_of(domain, frozenset())
            problem = self.keys.key_problem(key, families)
            if problem is None:
                self._check_ends(path, key, domain, families)
            elif not any(self.document.has_problem(("space", other)) for other in domain.when):
                self.bad(path, problem)

    def _path(self, key: str, index: int | None) -> YamlPath:
        """Where alternative ``index`` of ``key`` is written; None: the key itself."""
        section: YamlPath = ("family",) if key == "family" else ("space", key)
        return (*section, index) if index is not None and isinstance(self.data.get(key), list) else section

    def _families_of(self, domain: Domain, seen: frozenset[str]) -> tuple[str, ...]:
        """The families under which a domain can exist."""
        families = self.keys.families
        for key, allowed in domain.when.items():
            if key == "family":
                families = tuple(family for family in families if family in allowed)
            elif key in self.domains and key not in seen:
                among = [self._families_of(other, seen | {key}) for other in self.domains[key]]
                families = tuple(family for family in families if any(family in some for some in among))
        return families

    def _check_ends(self, path: YamlPath, key: str, domain: Domain, families: Sequence[str]) -> None:
        """Each end of a range, each choice, as a value of the field."""
        if isinstance(domain, Categorical):
            values = [((*path, "choices", i), choice) for i, choice in enumerate(domain.choices)]
        elif not domain.is_int and self.keys.is_whole(key, families):
            self.bad((*path, "type"), f"{key} is a whole number; write type: int")
            return
        else:
            values = [((*path, "low"), domain.low), ((*path, "high"), domain.high)]
        for at, value in values:
            problem = self.keys.value_problem(key, value, families, self.document.odd_words(at))
            if problem is not None:
                self.bad(at, problem)

    # --- the space as a whole ---------------------------------------------------------------------------
    def _check(self, space: Space) -> bool:
        """Notes what is wrong with domains and conditions; whether the space can be used."""
        asked = {*self.data, *(["family"] if self.is_family_searched else [])}
        broken = asked - set(self.domains)  # have their problems already; a reference to them is no new one
        problems = problems_of(space)
        doubtful = {key for key in self.data if self.document.has_problem(("space", key))}
        doubtful |= broken | {problem.key for problem in problems if problem.refers_to is None}
        for key, index, part, message, refers_to in problems:
            if refers_to in doubtful:
                continue
            path = (*self._path(key, index), *part)
            self.bad(path, message + (self._quote_it(path) if "when" in part else ""))
        for key, domains in self.domains.items():
            for i, domain in enumerate(domains):
                self._check_constants((*self._path(key, i), "when"), domain)
        return not broken and not problems

    def _check_constants(self, path: YamlPath, domain: Domain) -> None:
        """A condition on a fixed value must ask for values that it could have."""
        for other, allowed in domain.when.items():
            if other in self.domains or not (other in self.fixed or other in self.known):
                continue
            for value in allowed:
                if other in self.known:
                    problem = None if value in self.known[other] else unknown(value, self.known[other])
                else:
                    words = self.document.odd_words((*path, other))
                    problem = self.keys.value_problem(other, value, self.keys.families, words)
                if problem is not None:
                    self.bad((*path, other), problem)

    def _quote_it(self, path: YamlPath) -> str:
        return "".join(f" (YAML reads {word}; quote it)" for word in self.document.odd_words(path))

    # --- try_first --------------------------------------------------------------------------------------
    def read_try_first(self, space: Space | None, *, most: int | None) -> tuple[Mapping[str, Any], ...]:
        """The rows of ``try_first:``.

        Args:
            space: None while it is in doubt.
            most: the trials of the budget.
        """
        rows = self.document.entries("try_first", example="{optim.lr: 5.0e-5}") or []
        if most is not None and len(rows) > max(most, 1):
            self.bad(("try_first",), f"has {len(rows)} trials, more than budget.trials ({most})")
        good = []
        for i, row in enumerate(rows):
            path = ("try_first", i)
            if not isinstance(row, dict):
                self.bad(path, f"is {describe(row)}; write {{optim.lr: 5.0e-5}}")
                continue
            if not row:
                self.bad(path, "is empty")
            for key, message in check(space, row) if space is not None else self._not_searched(row):
                if not self.document.has_problem(("space", key)):
                    self.bad((*path, key), message + self._quote_it((*path, key)))
            good.append({key: self._as_number(key, value) for key, value in row.items()})
        return tuple(good)

    def _not_searched(self, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What can be said about a row while the space is in doubt."""
        searched = [*self.data, *(["family"] if self.is_family_searched else [])]
        return [(key, f"is not searched{did_you_mean(key, searched)}") for key in row if key not in searched]

    def _as_number(self, key: str, value: Any) -> Any:
        """``value`` as a float where its domain is one."""
        domains = self.domains.get(key, ())
        is_float = all(isinstance(domain, Number) and not domain.is_int for domain in domains)
        return float(value) if domains and is_float and number_problem(value) is None else value
