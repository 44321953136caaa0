"""Keys as they are listed: default, range and text of every field."""

from __future__ import annotations

import pytest

from mmtune.spec.keys import Key, config_groups, family_group, file_groups, model_keys
from mmtune.spec.settings_page import SETTINGS_FILE, settings_page
from trainables.config import OptimConfig
from trainables.families import FAMILIES

GROUPS = [*file_groups(), *config_groups(), *(family_group(family) for family in FAMILIES)]


@pytest.mark.parametrize("group", GROUPS, ids=[group.title or "file" for group in GROUPS])
def test_every_key_says_what_it_is(group):
    assert group.about and group.keys
    for key in group.keys:
        assert key.about.endswith(".") and key.range, key.name


def test_sections_are_flat_and_complete():
    names = [key.name for group in config_groups() for key in group.keys]
    assert len(names) == len(set(names))
    inside = [name.removeprefix("optim.") for name in names if name.startswith("optim.")]
    assert inside == [*OptimConfig.model_fields]
    assert {"seed", "uda.lam", "loss.pos_weight"} < set(names) and "optim" not in names


@pytest.mark.parametrize(
    "name, default, text",
    [
        ("lr", "0.0005", "float > 0, <= 10"),
        ("grad_clip", "1.0", "float > 0 or null"),
        ("plateau_patience", "2", "int >= 0"),
        ("schedule", "linear", "linear, cosine, constant, plateau"),
    ],
)
def test_ranges_in_words(name, default, text):
    (key,) = [key for key in model_keys(OptimConfig) if key.name == name]
    assert (key.default, key.range) == (default, text)


def test_other_ranges_in_words():
    def text(schema):
        return Key("x", "", "", schema).range

    assert text({"type": "boolean"}) == "true, false"
    assert text({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}) == "int >= 1 or auto"
    assert text({"anyOf": [{"type": "string"}, {"type": "null"}]}) == "text or null"


def test_an_unknown_family():
    with pytest.raises(ValueError, match="'fusoin' is unknown, did you mean 'fusion'?"):
        family_group("fusoin")


def test_the_settings_page_is_this_one():
    assert SETTINGS_FILE.read_text(encoding="utf-8") == settings_page(), "it is old; run: python scripts/generate"
