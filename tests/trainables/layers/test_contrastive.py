import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainables.layers.across_ranks import sample_keys
from trainables.layers.contrastive import info_nce

B, D, SCALE = 6, 5, torch.tensor(14.3)


def unit_vectors() -> tuple[torch.Tensor, torch.Tensor]:
    both_2BD = torch.randn(2, B, D, generator=torch.Generator().manual_seed(1))
    image_BD, text_BD = F.normalize(both_2BD, dim=2)
    return image_BD, text_BD


def by_hand(ids: list[str]) -> list[float]:
    """Row by row in numpy: the right one against the first row of each other sample, both ways."""
    image, text = (value.double().numpy() for value in unit_vectors())
    losses = []
    for row, name in enumerate(ids):
        others = [ids.index(other) for other in dict.fromkeys(ids) if other != name]
        ways = []
        for query, candidates in ((image, text), (text, image)):
            scores = 14.3 * candidates[[row, *others]] @ query[row]
            ways.append(np.log(np.exp(scores).sum()) - scores[0])
        losses.append(sum(ways) / 2)
    return losses


@pytest.mark.parametrize("ids", [list("abcdef"), list("abcabc"), list("aabbcd"), list("aaaaaa")])
def test_each_row_is_told_from_the_first_row_of_every_other_sample(ids):
    image_BD, text_BD = unit_vectors()
    loss_B = info_nce(image_BD, text_BD, SCALE, sample_keys(ids))
    np.testing.assert_allclose(loss_B, by_hand(ids), rtol=1e-5, atol=1e-6)


def test_it_is_the_loss_that_transformers_gives_clip():
    from transformers.models.clip.modeling_clip import image_text_contrastive_loss

    image_BD, text_BD = unit_vectors()
    expected = image_text_contrastive_loss(SCALE * text_BD @ image_BD.T)
    torch.testing.assert_close(info_nce(image_BD, text_BD, SCALE, sample_keys(list("abcdef"))).mean(), expected)


def test_half_precision_around_it_takes_no_digits():
    image_BD, text_BD = unit_vectors()
    keys = sample_keys(list("abcdef"))
    with torch.autocast("cpu", torch.bfloat16):
        inside = info_nce(image_BD, text_BD, SCALE, keys)
    assert inside.equal(info_nce(image_BD, text_BD, SCALE, keys))


def test_a_sample_has_one_key_everywhere():
    """Ranks are processes of their own, in which Python's hash would differ."""
    assert sample_keys(["1F600-noto", "ü"]).tolist() == [822882619907642937, 6192904641445441335]


def test_hard_negatives_count_in_proportion_to_what_they_look_like():
    """Written out: in the denominator each wrong pair times M e^(beta s c) / sum of these; 0 is the plain loss."""
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(7, 5, generator=generator), dim=1) for _ in range(2))
    key, scale, beta = torch.arange(7), torch.tensor(4.0), 0.7
    found = info_nce(image, text, scale, key, hardness=beta)
    odds = (scale * image.double() @ text.double().T).exp()
    expected = []
    for row in range(7):
        others = [at for at in range(7) if at != row]
        loss = 0.0
        for line in (odds[row], odds[:, row]):
            weight = line[others] ** beta
            weight = len(others) * weight / weight.sum()
            loss += -(line[row] / (line[row] + (weight * line[others]).sum())).log().item() / 2
        expected.append(loss)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    plain = info_nce(image, text, scale, key)
    assert info_nce(image, text, scale, key, hardness=0.0).equal(plain)
    assert found.mean() > plain.mean()  # which is Jensen's inequality
    with_copies = info_nce(image.repeat(2, 1), text.repeat(2, 1), scale, key.repeat(2), hardness=beta)
    assert with_copies[:7].tolist() == pytest.approx(expected, rel=1e-5)
