import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainables.layers.across_ranks import sample_keys
from trainables.layers.contrastive import info_nce, text_keys

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


def test_of_a_text_with_several_images_none_is_wrong():
    """Written out: a row against the rows of other texts, both ways. All of one text cost nothing."""
    image_BD, text_BD = unit_vectors()
    texts = torch.tensor([7, 8, 7, 9, 8, 7])
    found = info_nce(image_BD, text_BD, SCALE, torch.arange(B), text_key_B=texts)
    odds = (SCALE.double() * image_BD.double() @ text_BD.double().T).exp()
    for row in range(B):
        others = [at for at in range(B) if texts[at] != texts[row]]
        loss = sum(
            -(line[row] / (line[row] + line[others].sum())).log().item() / 2 for line in (odds[row], odds[:, row])
        )
        assert found[row].item() == pytest.approx(loss, rel=1e-5)
    assert info_nce(image_BD, text_BD, SCALE, torch.arange(B), text_key_B=torch.zeros(B)).abs().max() == 0
    different = info_nce(image_BD, text_BD, SCALE, torch.arange(B), text_key_B=torch.arange(B))
    assert different.equal(info_nce(image_BD, text_BD, SCALE, torch.arange(B)))


@pytest.mark.parametrize(
    "labels",
    [torch.tensor([0, 1, 0, 2, 1, 0]), torch.tensor([[1, 0], [1, 1], [0, 0], [0, 1], [1, 0], [0, 1]]).float()],
    ids=["one class", "several"],
)
def test_wrong_pairs_of_one_class_count_more_often(labels):
    """As if each such candidate stood there three times; a row without a class shares none."""
    image_BD, text_BD = unit_vectors()
    found = info_nce(image_BD, text_BD, SCALE, torch.arange(B), labels=labels, same_class=3.0)
    odds = (SCALE.double() * image_BD.double() @ text_BD.double().T).exp()
    classes = (
        [{int(one)} for one in labels] if labels.ndim == 1 else [{*row.nonzero().flatten().tolist()} for row in labels]
    )
    for row in range(B):
        copies = [at for at in range(B) if at != row for _ in range(3 if classes[at] & classes[row] else 1)]
        loss = sum(
            -(line[row] / (line[row] + line[copies].sum())).log().item() / 2 for line in (odds[row], odds[:, row])
        )
        assert found[row].item() == pytest.approx(loss, rel=1e-5)


def test_a_text_has_one_key_whatever_its_padding():
    ids = torch.tensor([[1, 5, 9, 2, 0, 0], [1, 9, 5, 2, 0, 0], [1, 5, 9, 2, 2, 0], [0, 1, 5, 9, 2, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]] * 2 + [[1, 1, 1, 1, 1, 0]] * 2)
    keys = text_keys(ids, mask)
    assert len(set(keys.tolist())) == 4
    assert text_keys(ids[:1, :4], mask[:1, :4]).equal(keys[:1]) and text_keys(
        ids[:1] + 77 * (1 - mask[:1]), mask[:1]
    ).equal(keys[:1])
    many = torch.randint(0, 30_000, (20_000, 8), generator=torch.Generator().manual_seed(0)).unique(dim=0)
    assert len(text_keys(many, torch.ones_like(many)).unique()) == len(many)
