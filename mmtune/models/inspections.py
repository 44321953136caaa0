"""What ``mmtune inspect`` can look at: name -> what it is and the module that does it. Nothing is imported here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Inspection:
    """One kind of inspection.

    Attributes:
        about: what it shows, in a line.
        module: exports ``PACKAGES``, what must be installed for it, and a function of a
            :class:`analysis.inspect.subject.Subject` that writes files and returns what is told of them.
        function: its name.
    """

    about: str
    module: str
    function: str = "inspect"


INSPECTIONS: dict[str, Inspection] = {
    "latent": Inspection(
        "PCA and t-SNE of the features by class, silhouette of the features", "analysis.inspect.latent"
    ),
    "retrieval": Inspection("text to picture and back: Recall@1/5/10, MRR, ranks", "analysis.inspect.retrieval"),
    "errors": Inspection("the most confident mistakes by pair of classes, shown", "analysis.inspect.errors"),
    "cam": Inspection(
        "Grad-CAM and kin: which part of a picture the class hangs on, with deletion and insertion areas",
        "analysis.inspect.cam",
    ),
    "attention": Inspection(
        "attention of the last layers and rollout, with deletion and insertion areas",
        "analysis.inspect.attention",
        "attention",
    ),
    "co-attention": Inspection(
        "which part of the picture each word looks at", "analysis.inspect.attention", "co_attention"
    ),
    "attributions": Inspection(
        "integrated gradients: which words the class hangs on, with deletion and insertion areas",
        "analysis.inspect.attributions",
    ),
    "latents": Inspection(
        "VAE: active units, KL, correlation of each latent dimension with classes and numbers",
        "analysis.inspect.vae",
        "latents",
    ),
    "traversal": Inspection(
        "VAE: one latent dimension at a time, decoded, by the nearest rows", "analysis.inspect.vae", "traversal"
    ),
    "reconstructions": Inspection(
        "VAE: what it reconstructs of each modality, given all or one", "analysis.inspect.vae", "reconstructions"
    ),
    "calibration": Inspection("reliability diagram, expected calibration error", "analysis.inspect.calibrated"),
}
