import json
import math

import numpy as np
import pytest
from disk import classes, jsonl, png, write_files

from trainables.data.formats import amazon

NUM = 40


def review_2014(at, **changes):
    return {
        "reviewerID": f"A{at}", "asin": f"B{at % 5}", "reviewerName": "x", "helpful": [at, at + 1],
        "reviewText": f"Text {at}.", "overall": float(1 + at % 5), "summary": f"Title {at}",
        "unixReviewTime": 1000 + at, "reviewTime": "02 3, 2014",
    } | changes  # fmt: skip


def review_2018(at, **changes):
    row = review_2014(at)
    del row["helpful"]
    return (
        row | {"vote": f"1,{at:03d}", "verified": at % 2 == 0, "style": {"Size:": "L"}, "image": ["http://x"]} | changes
    )


def review_2023(at, **changes):
    return {
        "rating": float(1 + at % 5), "title": f"Title {at}", "text": f"Text {at}.", "images": [], "asin": f"V{at}",
        "parent_asin": f"B{at % 5}", "user_id": f"A{at}", "timestamp": 1_600_000_000_000 + at, "helpful_vote": at,
        "verified_purchase": at % 2 == 0,
    } | changes  # fmt: skip


def write(folder):
    """2014: packed, products as Python literals."""
    product = (
        "{{'asin': 'B{}', 'title': \"It's\", 'price': {}, 'brand': '', 'categories': [['Toys', 'Games'], ['Other']]}}"
    )
    write_files(
        folder,
        {
            "reviews_Toys_5.json.gz": jsonl(*(review_2014(at) for at in range(NUM))),
            "meta_Toys.json.gz": jsonl(*(product.format(at, 9.5 + at) for at in range(4))),
        },
    )


def write_2018(folder):
    prices = ["$1,012.50", "$5.00 - $10.00", ".a-box-inner{background-color:#fff}", ""]
    write_files(
        folder,
        {
            "Toys_5.json.gz": jsonl(*(review_2018(at) for at in range(NUM))),
            "meta_Toys.json.gz": jsonl(
                *(
                    {"asin": f"B{at}", "price": price, "brand": f"Brand {at}", "category": ["Toys", "Games", "x"],
                     "main_cat": "<img src='x' alt='Toys'/>" if at else "Toys & Games"}
                    for at, price in enumerate(prices)
                )
            ),
        },
    )  # fmt: skip


def write_2023(folder):
    write_files(
        folder,
        {
            "raw/review_categories/Toys.jsonl": jsonl(*(review_2023(at) for at in range(NUM))),
            "raw/meta_categories/meta_Toys.jsonl": jsonl(
                *(
                    {"main_category": "Toys & Games", "title": "x", "average_rating": 4.5, "rating_number": 9,
                     "features": [], "price": price, "store": "Shop", "categories": ["Toys", "Games"],
                     "parent_asin": f"B{at}"}
                    for at, price in enumerate([1.5, None, "from 3.50", "None"])
                )
            ),
        },
    )  # fmt: skip


def groups(table):
    return [id.partition("-")[2].partition("-")[0] for id in table.ids]


@pytest.mark.parametrize("writer", [write, write_2018, write_2023])
def test_reviews_of_every_year(tmp_path, writer):
    writer(tmp_path)
    table = amazon.read(str(tmp_path))
    assert len(table.ids) == NUM
    assert table.texts == [f"Title {at}. Text {at}." for at in range(NUM)]
    assert classes(table) == [str(1 + at % 5) for at in range(NUM)]
    assert classes(table, "sentiment") == [
        ("negative", "negative", None, "positive", "positive")[at % 5] for at in range(NUM)
    ]
    assert classes(table, "rating") == [1.0 + at % 5 for at in range(NUM)]
    assert table.categorical["product"] == [f"B{at % 5}" for at in range(NUM)]
    assert table.categorical["user"] == [f"A{at}" for at in range(NUM)]
    assert table.categorical["subcategory"][:5] == ["Games"] * 4 + [None]
    assert table.numeric_names == ("price", "helpful_votes")
    assert table.images is None
    assert not {"stars", "rating", "average_rating", "overall"} & {*table.categorical, *table.numeric_names}


def test_products_of_2014(tmp_path):
    write(tmp_path)
    table = amazon.read(str(tmp_path))
    assert np.array_equal(table.numeric[:5, 0], [9.5, 10.5, 11.5, 12.5, math.nan], equal_nan=True)
    assert table.numeric[:5, 1].tolist() == [0, 1, 2, 3, 4]
    assert set(table.categorical) == {"user", "product", "category", "subcategory"}  # no brand, nothing about purchase
    assert table.problems == []


def test_products_of_2018(tmp_path):
    write_2018(tmp_path)
    table = amazon.read(str(tmp_path))
    assert np.array_equal(table.numeric[:5, 0], [1012.5, 5, math.nan, math.nan, math.nan], equal_nan=True)
    assert table.numeric[:2, 1].tolist() == [1000, 1001]
    assert table.categorical["category"][:5] == ["Toys & Games", "Toys", "Toys", "Toys", None]
    assert table.categorical["verified"][:2] == ["yes", "no"]
    assert table.problems == [
        "meta_Toys.json.gz line 3: price '.a-box-inner{background-color:#fff}' is none: taken as missing"
    ]


def test_products_of_2023(tmp_path):
    write_2023(tmp_path)
    table = amazon.read(str(tmp_path))
    assert np.array_equal(table.numeric[:5, 0], [1.5, math.nan, 3.5, math.nan, math.nan], equal_nan=True)
    assert table.categorical["brand"][:5] == ["Shop"] * 4 + [None]
    assert table.problems == []


def test_titles_that_amazon_makes_of_stars_are_not_text(tmp_path):
    rows = [
        review_2018(0, summary="Five Stars"),
        review_2018(1, summary="one star!"),
        review_2018(2, summary="Two Stars more"),
    ]
    rows += [review_2018(3, summary=None, reviewText="Only text"), review_2018(4, reviewText=None)]
    write_files(tmp_path, {"Toys_5.json": jsonl(*rows)})
    assert amazon.read(str(tmp_path)).texts == ["Text 0.", "Text 1.", "Two Stars more. Text 2.", "Only text", "Title 4"]


def test_the_same_words_of_the_same_user_stay_together(tmp_path):
    rows = [
        review_2018(at, asin=f"V{copy}", reviewText="The same.", summary="s") for at in range(NUM) for copy in range(3)
    ]
    write_files(tmp_path, {"Toys_5.json": jsonl(*rows)})
    table = amazon.read(str(tmp_path))
    split = table.split.reshape(NUM, 3)
    assert (split == split[:, :1]).all() and set(split[:, 0]) == {"train", "val", "test"}


def test_pictures_where_there_is_a_folder_of_them(tmp_path):
    write(tmp_path)
    write_files(tmp_path, {f"images/B{at}.jpg": png(at) for at in range(4)})
    table = amazon.read(str(tmp_path))
    assert list(table.images) == [png(at % 5) for at in range(NUM) if at % 5 != 4]
    assert table.problems == [
        f"reviews_Toys_5.json.gz line {at + 1}: no picture images/B4.jpg" for at in range(NUM) if at % 5 == 4
    ]


def test_what_cannot_be_used_is_listed(tmp_path):
    write_2018(tmp_path)
    rows = [review_2018(at) for at in range(NUM)]
    rows += [
        review_2018(50, overall=0),
        review_2018(51, overall="5"),
        review_2018(0),
        review_2018(52, vote="many"),
        "{'a': 1}",
    ]
    lost = review_2018(53)
    del lost["reviewerID"]
    meta = ["__import__('os').system('false')", "{'asin': open('x')}", {"asin": "B0"}]
    write_files(tmp_path, {"Toys_5.json.gz": jsonl(*rows, lost), "meta_Toys.json.gz": jsonl(*meta)})
    table = amazon.read(str(tmp_path))
    assert len(table.ids) == NUM
    assert table.problems == [
        "meta_Toys.json.gz line 1: not a JSON object (Expecting value at column 1)",
        "meta_Toys.json.gz line 2: not a JSON object (Expecting property name enclosed in double quotes at column 2)",
        "Toys_5.json.gz line 41: rating 0 is none of 1 to 5",
        "Toys_5.json.gz line 42: rating '5' is none of 1 to 5",
        "Toys_5.json.gz line 43: id B0-A0-1000 was there before",
        "Toys_5.json.gz line 44: votes 'many' are no number",
        "Toys_5.json.gz line 45: not a JSON object (Expecting property name enclosed in double quotes at column 2)",
        "Toys_5.json.gz line 46: no 'reviewerID'",
    ]


def test_a_packed_file_that_is_cut_short(tmp_path):
    write(tmp_path)
    path = tmp_path / "reviews_Toys_5.json.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"reviews_Toys_5.json.gz line \d+: the gzip file is cut short or broken"):
        amazon.read(str(tmp_path))
    path.write_bytes(json.dumps(review_2014(1)).encode())
    with pytest.raises(ValueError, match="reviews_Toys_5.json.gz line 1: the gzip file is cut short or broken"):
        amazon.read(str(tmp_path))


def test_what_is_missing_is_named(tmp_path):
    write_files(tmp_path, {"meta_Toys.json": "{}"})
    with pytest.raises(ValueError, match="has no file of reviews. Known layouts: reviews_CATEGORY_5.json.gz"):
        amazon.sources(str(tmp_path))
