"""Where samples lie in a model's feature spaces: PCA and t-SNE, and how well the classes part (silhouette).

The silhouette is of the features themselves (Rousseeuw 1987, Euclidean), not of a picture of them. For the picture,
features are standardised and reduced to 50 principal components at most before t-SNE (van der Maaten and Hinton 2008).
N samples, C classes, D features.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.figures import COLOURS, INK, legend, new_figure
from analysis.inspect.subject import NotApplicable, Subject
from trainables.task import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("sklearn",)
_LEAST = 5  # samples
_COMPONENTS = 50  # that t-SNE sees
_NAMED = len(COLOURS)  # classes with a colour of their own


def inspect(subject: Subject) -> list[str]:
    """Writes latent.csv, silhouette.csv and a picture for each feature.

    Raises:
        NotApplicable: too few samples.
    """
    if len(subject.rows) < _LEAST:
        raise NotApplicable(f"{len(subject.rows)} rows are too few for a map, it takes {_LEAST}")
    task, tables, scores = subject.trained.task, [], []
    said = [subject.label(at) for at in range(len(subject.rows))]
    for name, values_ND in subject.features.items():
        maps = coordinates(values_ND, seed=subject.seed)
        table = pd.DataFrame({"id": subject.ids, "label": said, "feature": name})
        for kind, xy_N2 in maps.items():
            table[f"{kind}_1"], table[f"{kind}_2"] = xy_N2.T
        tables.append(table)
        score = silhouettes(values_ND, subject.labels, task)
        scores.append(score.assign(feature=name))
        subject.write_figure(f"latent-{name}", _figure(subject, maps, f"{name}{_told(score)}"))
    subject.write_table("latent", pd.concat(tables))
    table = pd.concat(scores).loc[:, ["feature", "class", "samples", "silhouette"]]
    subject.write_table("silhouette", table)
    whole = table.loc[table["class"] == "all"]
    return [
        f"silhouette of {row['feature']}: " + ("none" if pd.isna(row["silhouette"]) else f"{row['silhouette']:.4f}")
        for _, row in whole.iterrows()
    ]


def coordinates(values_ND: np.ndarray, *, seed: int) -> dict[str, np.ndarray]:
    """Maps (N, 2) by name: pca, tsne, and umap where umap-learn is installed."""
    from sklearn.manifold import TSNE

    reduced = _components(values_ND)
    found = {"pca": reduced[:, :2]}
    start = reduced[:, :2] / max(reduced[:, 0].std(), 1e-12) * 1e-4
    perplexity = min(30.0, (len(reduced) - 1) / 3)
    found["tsne"] = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(reduced)
    if find_spec("umap") is not None:
        import umap  # pyright: ignore[reportMissingImports]

        made = umap.UMAP(n_neighbors=min(15, len(reduced) - 1), random_state=seed, n_jobs=1)  # a seed takes one thread
        found["umap"] = np.asarray(made.fit_transform(reduced))
    return found


def _components(values_ND: np.ndarray) -> np.ndarray:
    """The first principal components of standardised features, two at least and 50 at most; each points to where it is
    longest."""
    std_D = values_ND.std(axis=0)
    scaled = (values_ND - values_ND.mean(axis=0)) / np.where(std_D > 1e-9, std_D, np.inf)
    left, sizes, _ = np.linalg.svd(scaled.astype(np.float64), full_matrices=False)
    places = (left * sizes)[:, :_COMPONENTS]
    places = np.pad(places, ((0, 0), (0, max(0, 2 - places.shape[1]))))
    signs = np.sign(places[np.abs(places).argmax(axis=0), np.arange(places.shape[1])])
    return places * np.where(signs == 0, 1, signs)


def silhouettes(values_ND: np.ndarray, labels: np.ndarray, task: Task) -> pd.DataFrame:
    """A row for all samples (class 'all') and one for each class: class, samples, silhouette, NaN where there is none.

    Of one class a sample the mean over the samples, and over those of a class. Of a multi-label task a class parts the
    samples into those that have it and those that do not; the mean over classes is that of all. None of a regression.
    """
    rows = []
    if task.kind == "multiclass":
        each_N = _each(values_ND, labels)
        rows = [(name, labels == at, each_N[labels == at]) for at, name in enumerate(task.classes)]
        rows = [(name, int(has.sum()), float(part.mean()) if has.any() else np.nan) for name, has, part in rows]
        rows.insert(0, ("all", len(labels), float(each_N.mean())))
    elif task.kind == "multilabel":
        has_NC = labels > 0.5
        rows = [
            (name, int(has_NC[:, at].sum()), float(_each(values_ND, has_NC[:, at]).mean()))
            for at, name in enumerate(task.classes)
        ]
        known = [value for _, _, value in rows if not np.isnan(value)]
        rows.insert(0, ("all", len(labels), float(np.mean(known)) if known else np.nan))
    else:
        rows = [("all", len(labels), np.nan)]
    return pd.DataFrame(rows, columns=pd.Index(["class", "samples", "silhouette"]))


def _each(values_ND: np.ndarray, groups_N: np.ndarray) -> np.ndarray:
    """The silhouette of each sample (N,); NaN where there is one group, or each sample is one."""
    from sklearn.metrics import silhouette_samples

    if not 2 <= len(np.unique(groups_N)) <= len(groups_N) - 1:
        return np.full(len(groups_N), np.nan)
    return np.asarray(silhouette_samples(values_ND, groups_N))


def _told(score: pd.DataFrame) -> str:
    value = score["silhouette"].iloc[0]
    return "" if pd.isna(value) else f", silhouette {value:.3f}"


def _figure(subject: Subject, maps: dict[str, np.ndarray], title: str) -> Figure:
    figure, panels = new_figure(len(maps), shares_y=False)
    titles = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
    for number, (axes, (kind, xy_N2)) in enumerate(zip(panels, maps.items(), strict=True)):
        axes.set_title(titles[kind], fontsize=10, color=INK)
        axes.tick_params(labelleft=False, labelbottom=False, length=0)
        entries = _scatter(axes, subject, xy_N2)
        if number == 0 and entries:
            legend(figure, entries)
    figure.suptitle(title, fontsize=11)
    return figure


def _scatter(axes: Any, subject: Subject, xy_N2: np.ndarray) -> list[tuple[Any, str]]:
    """Points coloured by class, the commonest by name; a regression's by value."""
    labels = subject.labels
    if subject.trained.task.kind == "regression":
        return [(axes.scatter(*xy_N2.T, c=labels, s=9, cmap="viridis"), "label, dark is low")]
    if labels.ndim == 2:  # of several classes the rarest, which says most
        rarity_C = labels.sum(axis=0)
        labels = np.where(labels > 0.5, rarity_C, np.inf).argmin(axis=1) - (labels.max(axis=1) <= 0.5) * 10**6
    counts = np.bincount(labels[labels >= 0], minlength=len(subject.classes))
    named = [at for at in np.argsort(-counts, kind="stable")[:_NAMED] if counts[at] > 0]
    rest = ~np.isin(labels, named)
    entries = []
    if rest.any():
        entries.append((axes.scatter(*xy_N2[rest].T, s=7, color="0.8"), "others"))
    for at, colour in zip(named, COLOURS, strict=False):
        entries.append((axes.scatter(*xy_N2[labels == at].T, s=9, color=colour), subject.classes[at]))
    return entries[1:] + entries[:1] if rest.any() else entries  # others are drawn first and named last
