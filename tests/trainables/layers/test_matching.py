"""Against what `mmtune inspect --what retrieval` computes, in numpy and with the texts themselves."""

import numpy as np
import pytest
import torch

from analysis.inspect.retrieval import best_ranks, retrieval_metrics, similarity
from trainables.layers.matching import matching_recalls


def test_recalls_are_those_of_inspect():
    rng = np.random.default_rng(0)
    which = rng.integers(0, 70, 300)  # of several rows the text is the same
    texts = rng.normal(size=(70, 8))
    text_ND = texts[which]
    image_ND = text_ND + 1.2 * rng.normal(size=text_ND.shape)
    found = matching_recalls(torch.tensor(image_ND), torch.tensor(text_ND))
    numbers = np.unique(which)
    for direction, (query, target, positive) in {
        "image_to_text": (image_ND, texts[numbers], which[:, None] == numbers),
        "text_to_image": (texts[numbers], image_ND, numbers[:, None] == which),
    }.items():
        expected = retrieval_metrics(best_ranks(similarity(query, target, "cosine"), positive), positive)
        for k in (1, 5, 10):
            assert found[f"{direction}_recall_at_{k}"] == pytest.approx(expected[f"recall_at_{k}"])
            assert 0 < found[f"{direction}_recall_at_{k}"] < 1
    assert found["different_texts"] == len(numbers)


def test_what_is_all_alike_finds_nothing():
    image_ND, text_ND = torch.ones(20, 4), torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    found = matching_recalls(image_ND, text_ND)
    assert found["text_to_image_recall_at_10"] == 0.0
    perfect = matching_recalls(text_ND * 3, text_ND)
    assert perfect["image_to_text_recall_at_1"] == perfect["text_to_image_recall_at_1"] == 1.0


def test_padding_makes_no_other_text():
    text_ND = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))
    text_ND[3] = text_ND[1] + 1e-7
    assert matching_recalls(text_ND, text_ND)["different_texts"] == 5
