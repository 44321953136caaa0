"""Amazon reviews of 2014, 2018 (McAuley et al.; Ni et al. 2019) and 2023 (Hou et al. 2024): stars or sentiment.

Review files and ``meta_*`` files of one or several categories, plain or gzipped. The text is title and review,
without the 'Five Stars' that Amazon puts where a title is missing; neither stars nor a product's average rating are
features. Split 80/10/10 by hash, evenly over stars; what one user wrote about several variants of a product word for
word stays together. With a folder ``images/`` only rows whose product has a picture there (``ASIN.jpg``) are kept.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.data.reading.fields import BadRow, clean, id_of, show, text_of
from trainables.data.reading.folder import data_folder, missing
from trainables.data.reading.rows import Rows
from trainables.data.reading.splits import hash_split
from trainables.data.reading.table import Table
from trainables.data.reading.targets import multiclass, regression
from trainables.data.reading.textfiles import json_lines

SUMMARY = "product reviews with price, brand and category; 1 to 5 stars, sentiment, or the rating as a number"
IS_EMBEDDED = False
TARGETS = {"stars": "multiclass", "sentiment": "multiclass", "rating": "regression"}

_NAME = "amazon"
_STARS = ("1", "2", "3", "4", "5")
_SENTIMENTS = ("negative", "positive")
_FOLDERS = ("", "raw/review_categories", "raw/meta_categories", "review_categories", "meta_categories")
_SUFFIXES = (".json", ".json.gz", ".jsonl", ".jsonl.gz")
_GENERATED = re.compile(r"(one|two|three|four|five) stars?", re.IGNORECASE)
_PRICE = re.compile(r"(?:from )?\$?\s*(\d[\d,]*(?:\.\d+)?)(?:\s*-\s*\$?\d[\d,.]*)?")
_LAYOUTS = (
    "reviews_CATEGORY_5.json.gz and meta_CATEGORY.json.gz (2014)",
    "CATEGORY_5.json.gz and meta_CATEGORY.json.gz (2018)",
    "CATEGORY.jsonl.gz and meta_CATEGORY.jsonl.gz (2023, perhaps in raw/review_categories/ and raw/meta_categories/)",
)


@dataclass(frozen=True)
class _Product:
    price: float = math.nan
    brand: str | None = None
    category: str | None = None
    subcategory: str | None = None


def sources(data_dir: str | None) -> list[Path]:
    """Review files, then meta files.

    Raises:
        ValueError: no folder, or no file of reviews in it.
    """
    reviews, metas = _files(data_folder(_NAME, data_dir))
    return [*reviews, *metas]


def read(data_dir: str | None) -> Table:
    """All reviews with a rating.

    Raises:
        ValueError: as for :func:`sources`, or a file that cannot be read at all.
    """
    root = data_folder(_NAME, data_dir)
    reviews, metas = _files(root)
    rows = Rows(_NAME, root)
    products = {id: product for path in metas for id, product in _products(path, rows)}
    has_pictures, shared = (root / "images").is_dir(), {}
    for path in reviews:
        for line, row in json_lines(path, rows.lost()):
            with rows.sample(path, line):
                review = _review(row)
                id = rows.named(f"{review.variant}-{review.user}-{review.time}")
                product = shared.setdefault(review.product, review.product)
                image = None
                if has_pictures:
                    image = rows.pictures.first(f"images/{product}") if product.isalnum() else None
                    if image is None:
                        raise BadRow(f"no picture images/{product}.jpg")
                rows.add(
                    id=id,
                    text=review.text,
                    image=image,
                    stars=_STARS[review.stars - 1],
                    product=product,
                    user=shared.setdefault(review.user, review.user),
                    votes=review.votes,
                    verified=review.verified,
                )
    rows.check()
    stars, bought = rows.column("stars"), [products.get(id, _Product()) for id in rows.column("product")]
    features = {
        name: [getattr(product, name) for product in bought] for name in ("price", "brand", "category", "subcategory")
    }
    prices = features.pop("price")
    numeric = {"price": prices, "helpful_votes": rows.column("votes")}
    categorical = {name: rows.column(name) for name in ("user", "product", "verified")} | features
    return rows.table(
        {
            "stars": multiclass(stars, _STARS),
            "sentiment": multiclass([_sentiment(value) for value in stars], _SENTIMENTS),
            "rating": regression([float(value) for value in stars]),
        },
        split=hash_split(
            rows.ids,
            strata=stars,
            groups=[
                f"{user}\0{text}" if text else id
                for user, text, id in zip(rows.column("user"), rows.texts, rows.ids, strict=True)
            ],
        ),
        numeric={name: values for name, values in numeric.items() if not all(map(math.isnan, values))},
        categorical={
            name: values for name, values in categorical.items() if any(value is not None for value in values)
        },
    )


def _files(root: Path) -> tuple[list[Path], list[Path]]:
    found = [
        path
        for folder in _FOLDERS
        for path in sorted((root / folder).glob("*"))
        if path.name.endswith(_SUFFIXES) and path.is_file()
    ]
    reviews = [path for path in found if not path.name.startswith("meta_")]
    if not reviews:
        raise missing(_NAME, root, "file of reviews", _LAYOUTS)
    return reviews, [path for path in found if path.name.startswith("meta_")]


# --- reviews ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Review:
    user: str
    product: str
    variant: str  # of the product, where it differs
    time: int
    stars: int  # 1 .. 5
    text: str
    votes: float
    verified: str | None


def _review(row: dict[str, Any]) -> _Review:
    is_2023 = "rating" in row and "overall" not in row
    stars = row.get("rating" if is_2023 else "overall")
    if isinstance(stars, bool) or not isinstance(stars, int | float) or stars not in (1, 2, 3, 4, 5):
        raise BadRow(f"rating {show(stars)} is none of 1 to 5")
    variant = id_of(row, "asin")
    title = text_of(row, "title" if is_2023 else "summary", default="")
    if _GENERATED.fullmatch(title.rstrip(".!")):
        title = ""
    body = text_of(row, "text" if is_2023 else "reviewText", default="")
    time = row.get("timestamp" if is_2023 else "unixReviewTime")
    verified = row.get("verified_purchase" if is_2023 else "verified")
    return _Review(
        user=id_of(row, "user_id" if is_2023 else "reviewerID"),
        product=id_of(row, "parent_asin") if row.get("parent_asin") else variant,
        variant=variant,
        time=time if isinstance(time, int) else 0,
        stars=int(stars),
        text=f"{title}. {body}" if title and body else title or body,
        votes=_votes(row),
        verified={True: "yes", False: "no"}.get(verified) if isinstance(verified, bool) else None,
    )


def _votes(row: dict[str, Any]) -> float:
    """How many found the review helpful: [helpful, all] in 2014, '1,234' in 2018, a number in 2023; none is 0."""
    helpful = row.get("helpful")
    value = helpful[0] if isinstance(helpful, list) and helpful else row.get("vote", row.get("helpful_vote", 0))
    try:
        return float(value.replace(",", "")) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadRow(f"votes {show(value)} are no number") from None


def _sentiment(stars: str) -> str | None:
    return None if stars == "3" else _SENTIMENTS[stars in ("4", "5")]


# --- products ---------------------------------------------------------------------------------------
def _products(path: Path, rows: Rows) -> Iterator[tuple[str, _Product]]:
    shared: dict[str, str] = {}
    for line, row in json_lines(path, rows.note, parse=_literal):
        with rows.at(path, line):
            id = id_of(row, "parent_asin" if row.get("parent_asin") else "asin")
            levels = [shared.setdefault(name, name) for name in _levels(row)]
            brand = row.get("brand") or row.get("store")
            brand = shared.setdefault(clean(brand).strip(), clean(brand).strip()) if isinstance(brand, str) else None
            product = _Product(
                price=_price(row.get("price")),
                brand=brand or None,
                category=levels[0] if levels else None,
                subcategory=levels[1] if len(levels) > 1 else None,
            )
            if row.get("price") not in (None, "", "None") and math.isnan(product.price):
                rows.note(path, line, f"price {show(row['price'])} is none: taken as missing")
            yield id, product


def _literal(line: str) -> Any:
    """A JSON object, or the Python literal that the files of 2014 have instead; nothing is evaluated."""
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)  # of backslashes in descriptions
                return ast.literal_eval(line)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise error from None


def _levels(row: dict[str, Any]) -> list[str]:
    """Category and sub-category: a list of paths in 2014, one path later, its top by name in 2023."""
    path = row.get("categories") or row.get("category") or []
    if isinstance(path, list) and path and isinstance(path[0], list):
        path = path[0]
    names = [clean(name).strip() for name in path if isinstance(name, str)] if isinstance(path, list) else []
    top = row.get("main_category") or row.get("main_cat")
    if isinstance(top, str) and top.strip() and not top.startswith("<"):  # 2018 has pictures of names
        return [clean(top).strip(), *names[1:2]]
    return names[:2]


def _price(value: Any) -> float:
    """Dollars, of a range its lower end; NaN where there is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else math.nan
    match = _PRICE.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(match[1].replace(",", "")) if match else math.nan
