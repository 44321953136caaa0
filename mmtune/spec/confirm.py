"""``confirm:`` of a search file: what follows the search."""

from __future__ import annotations

from pydantic import Field

from mmtune.spec.document import Document
from mmtune.spec.validation import read_model
from trainables.config import Section


class Confirm(Section):
    """What follows a search: the best of the study, or of each family where it is searched, again on fresh seeds."""

    seeds: int = Field(default=5, ge=2, le=1000)
    """How many, each of them tested once at its end."""
    top: int = Field(default=1, ge=1)
    """How many trials of the study, or of each family."""


def read_confirm(document: Document) -> Confirm | None:
    """``confirm:``, None where nothing follows the search."""
    if document.data.get("confirm") is None:
        return None
    given = document.section("confirm")
    document.known_keys(("confirm",), given, list(Confirm.model_fields))
    return read_model(document, ("confirm",), given, Confirm) or Confirm()


def confirming_name(study: str) -> str:
    """The name of the study that confirms ``study``, unless it is given another."""
    return f"{study}-confirm"
