"""The latent of a VAE: what each dimension decodes to, what it goes along with, and how well it reconstructs.

Decoded are features, of which the row whose features are nearest is shown; or small pictures, which are shown; or
words, of which the likeliest are.
N rows, Z latent dimensions, the shared ones first, then each modality's private ones; D features or pixels' channels of
a modality, K components of a mixture (1 of other posteriors), V words, S pixels a side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.figures import INK, new_figure, plain
from analysis.inspect.retrieval import best_ranks, retrieval_metrics, similarity
from analysis.inspect.subject import NotApplicable, Subject, draw_picture, draw_row, grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ()
STEPS = np.linspace(-3, 3, 7)
ACTIVE = 0.01  # variance of the posterior mean, above which a dimension is active (Burda et al. 2016)
_WORDS = 5  # that are shown of a decoded text
_AT_ONCE = 256  # latents that are decoded
_DRAWN = 30  # dimensions, and attributes, of a picture


@dataclass(frozen=True)
class Latents:
    """What a VAE makes of N rows.

    Attributes:
        values: modality -> (N, D) that it reconstructs: standardised features, or small pictures from -1 to 1.
        words: of each row which of the V words its text has, where words are what it reconstructs of texts; else None.
        means: posterior means (N, Z): given 'all' modalities, and given each alone where there is such a posterior; of
            what is not given the private ones are 0, as the prior's.
        latents: of each dimension whose it is, 'shared' or a modality.
        kl_Z: KL of the posterior given all to the prior, of each dimension, in nats, mean over the rows.
        vae: its module.
    """

    values: dict[str, np.ndarray]
    words: list[np.ndarray] | None
    means: dict[str, np.ndarray]
    latents: np.ndarray
    kl_Z: np.ndarray
    vae: Any

    def label(self, dimension: int) -> str:
        """'z3', or 'text 0' of a private one."""
        return f"{self.latents[dimension]} {self.place(dimension)}".replace("shared ", "z")

    def place(self, dimension: int) -> int:
        """The dimension's number within its latent."""
        return dimension - int((self.latents == self.latents[dimension]).argmax())

    def decoded(self, z_NZ: np.ndarray, modality: str) -> np.ndarray:
        """What is decoded of latents: features or pixels (N, D), of a text's words logits (N, V)."""
        import torch

        decoder = self.vae.decoders[modality]
        z_NZ = z_NZ[:, np.isin(self.latents, ("shared", modality))]
        with torch.inference_mode():
            place = next(decoder.parameters())
            parts = [decoder(part) for part in torch.from_numpy(z_NZ).to(place).split(_AT_ONCE)]
            return torch.cat(parts).flatten(1).float().cpu().numpy()

    def picture(self, decoded_D: np.ndarray) -> np.ndarray:
        """(S, S, 3) from 0 to 1, of what is decoded of pictures."""
        side = self.vae.config.picture_size
        return (decoded_D.reshape(3, side, side).transpose(1, 2, 0).clip(-1, 1) + 1) / 2

    def shows(self, modality: str) -> bool:
        """Whether what is decoded is a picture."""
        return self.vae.kinds[modality] == "pixels"


def latents(subject: Subject) -> list[str]:
    """Writes latents.csv, correlations.csv and a picture of the latter.

    Raises:
        NotApplicable: the model is no VAE.
    """
    found = read_latents(subject)
    mean_NZ = found.means["all"]
    variance_Z = mean_NZ.astype(np.float64).var(axis=0)
    number = np.array([found.place(at) for at in range(len(variance_Z))])
    is_active = variance_Z > ACTIVE
    columns = {"latent": found.latents, "dimension": number, "variance": variance_Z, "is_active": is_active,
               "kl_nats": found.kl_Z}  # fmt: skip
    subject.write_table("latents", pd.DataFrame(columns))
    names, values_NA = attributes(subject)
    pearson_ZA = correlations(mean_NZ, values_NA)
    counts = (~np.isnan(values_NA)).sum(axis=0)
    table = pd.DataFrame(
        {
            "latent": np.repeat(found.latents, len(names)),
            "dimension": np.repeat(number, len(names)),
            "attribute": names * len(number),
            "rows": np.tile(counts, len(number)),
            "pearson": pearson_ZA.reshape(-1),
        }
    )
    subject.write_table("correlations", table)
    subject.write_figure("correlations", _heatmap(pearson_ZA, names, variance_Z, found))
    said = []
    for latent in dict.fromkeys(found.latents):
        own = found.latents == latent
        which = "" if latent == "shared" else f" of the private latent of {latent}"
        active = f"{int(is_active[own].sum())} of {int(own.sum())} dimensions{which} are active"
        said.append(f"{active}; KL {found.kl_Z[own].sum():.4f} nats")
    if not np.isnan(pearson_ZA).all():
        at, which = np.unravel_index(np.nanargmax(np.abs(pearson_ZA)), pearson_ZA.shape)
        said.append(f"strongest: dimension {found.label(int(at))} with {names[which]}, r = {pearson_ZA[at, which]:.4f}")
    return said


def traversal(subject: Subject) -> list[str]:
    """Writes traversal.csv and a picture a modality: one dimension at a time from -3 to 3.

    Raises:
        NotApplicable: the model is no VAE.
    """
    import torch

    found = read_latents(subject)
    mean_NZ = found.means["all"]
    start = int(((mean_NZ - mean_NZ.mean(axis=0)) ** 2).sum(axis=1).argmin())
    dimensions = np.argsort(-mean_NZ.var(axis=0), kind="stable")[: subject.num_shown]
    path_SZ = np.concatenate([walk(mean_NZ[start], dimension) for dimension in dimensions])
    model: Any = subject.trained.model
    classify = model.probe if hasattr(model, "probe") else model.head
    with torch.inference_mode():
        place = next(classify.parameters())
        logits = classify(torch.from_numpy(path_SZ[:, found.latents == "shared"]).to(place)).float().cpu().numpy()
    said, rows = _said(subject, subject.trained.scores(logits)), []
    for modality, values_ND in found.values.items():
        decoded_SD = found.decoded(path_SZ, modality)
        distance_SN = -similarity(decoded_SD, values_ND, "euclidean")
        nearest_S = distance_SN.argmin(axis=1)
        for at, near in enumerate(nearest_S):
            dimension, step = dimensions[at // len(STEPS)], STEPS[at % len(STEPS)]
            rows.append({"start": subject.ids[start], "latent": found.latents[dimension],
                         "dimension": found.place(dimension), "value": step, "modality": modality,
                         "nearest": subject.ids[near], "distance": distance_SN[at, near], **said[at]})  # fmt: skip
        what = f"{modality}, decoded" if found.shows(modality) else f"{modality} nearest to what is decoded"
        figure, panels = grid(len(dimensions), len(STEPS), title=what)
        for at, axes in enumerate(panels.flat):
            title = (
                f"{found.label(dimensions[at // len(STEPS)])} = {STEPS[at % len(STEPS)]:g}: {said[at]['prediction']}"
            )
            if found.shows(modality):
                draw_picture(axes, found.picture(decoded_SD[at]), title=title)
            else:
                draw_row(axes, subject, int(nearest_S[at]), title=title, modality=modality)
        subject.write_figure(f"traversal-{modality}", figure)
    if found.words is not None:
        for at, words in enumerate(_likeliest(subject, found.decoded(path_SZ, "text"))):
            dimension, step = dimensions[at // len(STEPS)], STEPS[at % len(STEPS)]
            rows.append({"start": subject.ids[start], "latent": found.latents[dimension],
                         "dimension": found.place(dimension), "value": step, "modality": "text",
                         "words": words, **said[at]})  # fmt: skip
    subject.write_table("traversal", pd.DataFrame(rows))
    return [f"{len(dimensions)} dimensions from {subject.ids[start]}, the row nearest to the middle"]


def reconstructions(subject: Subject) -> list[str]:
    """Writes reconstructions.csv and a picture a modality.

    Raises:
        NotApplicable: the model is no VAE.
    """
    found = read_latents(subject)
    rows, said = [], []
    for modality, values_ND in found.values.items():
        places = np.unique(values_ND, axis=0, return_inverse=True)[1].reshape(-1)  # equal rows stand for each other
        firsts = np.unique(places, return_index=True)[1]
        is_positive = places[:, None] == np.arange(len(firsts))
        nearest, pictures = {}, {}
        for given, mean_NZ in found.means.items():
            decoded_ND = found.decoded(mean_NZ, modality)
            pictures[given] = decoded_ND
            near_NK = similarity(decoded_ND, values_ND[firsts], "euclidean")
            nearest[given] = firsts[near_NK.argmax(axis=1)]
            ranks = retrieval_metrics(best_ranks(near_NK, is_positive), is_positive)
            kept = {name: ranks[name] for name in ("candidates", "recall_at_1", "mrr")}
            row = {"given": given, "decoded": modality, **fit(values_ND, decoded_ND), **kept}
            rows.append(row)
            if given == "all":
                said.append(f"{modality}: R2 {row['r2']:.4f}, nearest to itself {row['recall_at_1']:.4f}")
        what = f"{modality}, decoded" if found.shows(modality) else f"{modality}: nearest to what is decoded"
        figure, panels = grid(len(subject.shown), 1 + len(nearest), title=what)
        for axes, at in zip(panels, subject.shown, strict=True):
            draw_row(axes[0], subject, int(at), title=f"row {subject.ids[at]}", modality=modality)
            for panel, (given, rows_N) in zip(axes[1:], nearest.items(), strict=True):
                if found.shows(modality):
                    draw_picture(panel, found.picture(pictures[given][at]), title=f"given {given}")
                else:
                    draw_row(panel, subject, int(rows_N[at]), title=f"given {given}", modality=modality)
        subject.write_figure(f"reconstructions-{modality}", figure)
    if found.words is not None:
        shown: dict[str, list[Any]] = {"id": subject.ids}
        for given, mean_NZ in found.means.items():
            logits_NV = found.decoded(mean_NZ, "text")
            rows.append({"given": given, "decoded": "text", "words_found": words_found(found.words, logits_NV)})
            shown[given] = _likeliest(subject, logits_NV)
        said.append(f"text: of its words {rows[-len(found.means)]['words_found']:.4f} are among the likeliest")
        subject.write_table("words", pd.DataFrame(shown))
    subject.write_table("reconstructions", pd.DataFrame(rows))
    return said


def read_latents(subject: Subject) -> Latents:
    """What the model's VAE makes of the rows.

    Raises:
        NotApplicable: it has none.
    """
    import torch

    model: Any = subject.trained.model
    family = subject.trained.config.family
    vae = getattr(model, "vae", None)
    if vae is None:
        raise NotApplicable(f"family {family} has no latent that is decoded; mvae and hybrid_vae have")
    parts: dict[str, list[Any]] = {}
    with torch.inference_mode():
        for batch in subject.batches():
            for name, values in vae.read(model.ports, batch).items():
                parts.setdefault(name, []).append(values)
        features = {name: torch.cat(values).float() for name, values in parts.items() if name in vae.kinds}
        alone, (mean_KNZ, logvar_KNZ) = vae.posteriors(features)
        given = {"all": mean_KNZ, **({} if len(alone) < 2 else {name: mean for name, (mean, _) in alone.items()})}
        private = vae.privates(features)
        means = {}
        for name, shared_KNZ in given.items():
            own = [own if name in ("all", of) else torch.zeros_like(own) for of, (own, _) in private.items()]
            means[name] = torch.cat([shared_KNZ.mean(dim=0), *(mean_1NP[0] for mean_1NP in own)], dim=1)
        posteriors = [(mean_KNZ, logvar_KNZ), *private.values()]
        kl_Z = torch.cat([0.5 * (mean**2 + var.exp() - 1 - var).mean(dim=(0, 1)) for mean, var in posteriors])
    sizes = {"shared": mean_KNZ.shape[2], **{name: mean.shape[2] for name, (mean, _) in private.items()}}
    values = {name: features[name] for name, kind in vae.kinds.items() if kind == "features" and name in features}
    values |= {"image": torch.cat(parts["target_image"]).flatten(1)} if vae.kinds.get("image") == "pixels" else {}
    words = [row_L for part_BL in parts.get("target_text", []) for row_L in part_BL.cpu().numpy()]
    return Latents(
        {name: values_ND.cpu().numpy() for name, values_ND in values.items()},
        [np.unique(row_L[row_L > 0]) - 1 for row_L in words] if words else None,
        {name: mean.cpu().numpy() for name, mean in means.items()},
        np.repeat([*sizes], [*sizes.values()]),
        kl_Z.cpu().numpy().astype(np.float64),
        vae,
    )


def attributes(subject: Subject) -> tuple[list[str], np.ndarray]:
    """Names of A attributes of the rows, and their values (N, A): has the class (0, 1), or the label; then numbers."""
    labels, classes = subject.labels, subject.classes
    if subject.trained.task.kind == "regression":
        names, parts = [subject.trained.facts.target], [labels[:, None]]
    elif labels.ndim == 1:
        names, parts = list(classes), [labels[:, None] == np.arange(len(classes))]
    else:
        names, parts = list(classes), [labels > 0.5]
    if subject.table.numeric is not None:
        names += list(subject.table.numeric_names)
        parts.append(subject.table.numeric[subject.rows])
    return names, np.concatenate([part.astype(np.float64) for part in parts], axis=1)


def correlations(mean_NZ: np.ndarray, values_NA: np.ndarray) -> np.ndarray:
    """Pearson's correlation (Z, A) over the rows that have the attribute; NaN where either does not vary."""
    found = np.full((mean_NZ.shape[1], values_NA.shape[1]), np.nan)
    for at, values_N in enumerate(values_NA.T):
        there = ~np.isnan(values_N)
        if there.sum() < 2:
            continue
        x, y = mean_NZ[there].astype(np.float64), values_N[there]
        x, y = x - x.mean(axis=0), y - y.mean()
        size = np.sqrt((x**2).sum(axis=0) * (y**2).sum())
        found[:, at] = np.divide(x.T @ y, size, out=np.full(len(size), np.nan), where=size > 1e-12)
    return found


def words_found(words: list[np.ndarray], logits_NV: np.ndarray) -> float:
    """Of a row's W different words the share that is among the W likeliest; mean over the rows that have words."""
    shares = []
    for own_W, logits_V in zip(words, logits_NV, strict=True):
        if len(own_W):
            likeliest = np.argpartition(-logits_V, len(own_W) - 1)[: len(own_W)]
            shares.append(np.isin(own_W, likeliest).mean())
    return float(np.mean(shares)) if shares else np.nan


def walk(mean_Z: np.ndarray, dimension: int) -> np.ndarray:
    """The latent with one dimension at each of STEPS, (7, Z)."""
    path = np.repeat(mean_Z[None], len(STEPS), axis=0)
    path[:, dimension] = STEPS
    return path


def fit(values_ND: np.ndarray, decoded_ND: np.ndarray) -> dict[str, float]:
    """Mean squared error of an element, and R2: 1 - error / that of these rows' own mean; NaN where none vary."""
    error = float(((values_ND - decoded_ND) ** 2).mean())
    whole = float(((values_ND - values_ND.mean(axis=0)) ** 2).mean())
    return {"mse": error, "r2": 1 - error / whole if whole > 0 else np.nan}


def _likeliest(subject: Subject, logits_NV: np.ndarray) -> list[str]:
    """The likeliest words of each row, joined by spaces."""
    tokens = subject.trained.tokenizer.convert_ids_to_tokens
    best_NW = np.argsort(-logits_NV, axis=1, kind="stable")[:, :_WORDS]
    return [" ".join(str(token) for token in tokens(row_W.tolist())) for row_W in best_NW]


def _said(subject: Subject, scores: np.ndarray) -> list[dict[str, Any]]:
    """What the classifier says of each latent."""
    kind = subject.trained.task.kind
    if kind == "regression":
        return [{"prediction": f"{value:.5g}"} for value in scores]
    if kind == "multilabel":
        names = [", ".join(np.array(subject.classes, object)[row > 0.5]) or "none" for row in scores]
        return [{"prediction": name} for name in names]
    best = scores.argmax(axis=1)
    return [{"prediction": subject.classes[at], "probability": row[at]} for at, row in zip(best, scores, strict=True)]


def _heatmap(pearson_ZA: np.ndarray, names: list[str], variance_Z: np.ndarray, found: Latents) -> Figure:
    """The dimensions that vary most against the attributes that go along with any of them most."""
    rows = np.sort(np.argsort(-variance_Z, kind="stable")[:_DRAWN])
    strength = np.nan_to_num(np.abs(pearson_ZA[rows])).max(axis=0)
    columns = np.sort(np.argsort(-strength, kind="stable")[:_DRAWN])
    figure, (axes,) = new_figure(1)
    figure.set_size_inches(2.5 + 0.3 * len(columns), 1.8 + 0.22 * len(rows))
    axes.grid(visible=False)
    drawn = axes.imshow(pearson_ZA[np.ix_(rows, columns)], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), [plain(names[at]) for at in columns], rotation=90)
    axes.set_yticks(range(len(rows)), [found.label(int(at)) for at in rows])
    axes.set_title("Posterior means against attributes", fontsize=10, color=INK)
    figure.colorbar(drawn, ax=axes, label="Pearson's r")
    return figure
