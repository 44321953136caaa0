"""What runs next: Optuna's samplers, Ray's schedulers, and the searcher that hands trials to Ray Tune."""
