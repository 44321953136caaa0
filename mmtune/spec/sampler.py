"""The section ``sampler:`` of a search file: what proposes trials, and which studies it learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from mmtune.search.samplers import SAMPLERS, ParzenOptions, sampler_problem
from mmtune.space.domains import Domain
from mmtune.spec.document import Document
from mmtune.spec.validation import read_model
from trainables.config import Section
from trainables.messages import unknown


class SamplerSpec(Section):
    """What proposes trials; the other keys are the sampler's own."""

    name: str = "parzen"
    """`mmtune list samplers`."""
    seed: int = Field(default=1, ge=0)
    """All that the sampler draws derives from it."""
    learn_from: list[str] | None = Field(default=None, min_length=1)
    """Studies, names or folders, whose best trials proposals go near as long as this study's own bear them out.

    Their ranks count, not their values: the data may be others. Read once, when the study begins, into learnt.csv.
    """
    options: Section = ParzenOptions()
    """See SAMPLERS; in a file they stand beside name and seed."""


_OF_ANY_SAMPLER = ("name", "seed", "learn_from")


def read_sampler(document: Document, domains: Mapping[str, Sequence[Domain]], *, study: str) -> SamplerSpec:
    """``sampler:`` of a study of that name; ``domains`` is what it will search."""
    given = document.section("sampler", has_name=True)
    spec = read_model(document, ("sampler",), given, SamplerSpec) or SamplerSpec()
    kind = SAMPLERS.get(spec.name)
    if kind is None:
        document.bad(("sampler", "name"), unknown(spec.name, SAMPLERS))
        return SamplerSpec()
    document.known_keys(("sampler",), given, (*_OF_ANY_SAMPLER, *kind.options.model_fields))
    options = read_model(document, ("sampler",), given, kind.options) or kind.options()
    for at, name in enumerate(spec.learn_from or ()):
        if name == study:
            document.bad(("sampler", "learn_from", at), f"'{name}' is this study; of another so called give the path")
        elif name in (spec.learn_from or ())[:at]:
            document.bad(("sampler", "learn_from", at), f"'{name}' is there already")
    if problem := sampler_problem(kind, domains, learns=spec.learn_from is not None):
        document.bad(("sampler", "name"), problem)
    return spec.model_copy(update={"options": options})
