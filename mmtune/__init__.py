"""mmtune: Ray-distributed hyperparameter search for multimodal classification."""

__version__ = "0.1.0"
