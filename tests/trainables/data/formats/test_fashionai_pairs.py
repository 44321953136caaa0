"""Pictures and the texts that are made of their attributes' values."""

import numpy as np
import pytest
from disk import by_id, classes
from test_fashionai import write

from trainables.config import TrialConfig
from trainables.data.formats import fashionai, fashionai_pairs
from trainables.loop import train

__all__ = ["write"]


def test_a_text_is_the_value_of_the_attribute(tmp_path):
    write(tmp_path)
    table, plain = fashionai_pairs.read(str(tmp_path)), fashionai.read(str(tmp_path))
    texts, attributes = by_id(table, table.texts), by_id(table, classes(table, "attribute"))
    assert texts["base/Images/skirt_length_labels/s1.jpg"] == "skirt length: Knee Length"
    assert texts["web/Images/skirt_length_labels/w3.jpg"] == "skirt length: Short Length"
    assert texts["base/Images/neck_design_labels/s1.jpg"] == "neck design: Turtle Neck"  # the same file name
    assert attributes["base/Images/neck_design_labels/s1.jpg"] == "neck_design"
    assert (
        texts["rank/Images/skirt_length_labels/q0.jpg"] == ""
        and attributes["rank/Images/skirt_length_labels/q0.jpg"] is None
    )
    assert table.ids == plain.ids and np.array_equal(table.split, plain.split)
    assert [text or None for text in table.texts] == classes(table, "description")
    assert len(set(table.texts) - {""}) == 6 and len(table.targets["description"].task.classes) == 54
    assert table.targets["attribute"].task.classes == ("neck_design", "skirt_length")


@pytest.mark.slow
def test_recalls_both_ways_with_several_pictures_a_text(tmp_path):
    """Trained for a moment: wrong pairs of the same attribute count more; each text of the split is found once."""
    write(tmp_path / "data")
    config = TrialConfig(  # pyright: ignore[reportCallIssue] (does not see Field's defaults)
        family="clip", dataset="fashionai_pairs", data_dir=str(tmp_path / "data"), epochs=1, batch_size=16,
        image_size=16, max_text_len=16, device="cpu", objective="val_text_to_image_recall_at_5",
        model={"encoder": "tiny-clip", "mode": "contrastive", "same_class_negatives": 4.0, "hard_negatives": 0.5},
    )  # fmt: skip
    (row,) = train(config, folder=tmp_path / "model").reports
    table = fashionai_pairs.read(str(tmp_path / "data"))
    texts = {text for text, split in zip(table.texts, table.split, strict=True) if split == "val" and text}
    assert row["val_different_texts"] == len(texts) > 1
    recalls = [row[f"val_{way}_recall_at_{k}"] for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
    assert recalls[2] == 1.0 and 0 <= min(recalls) and recalls == sorted(recalls[:3]) + sorted(recalls[3:])
    assert np.isfinite(row["train_contrastive"])
