"""What may vary: domains, conditions between them, what is wrong with either; corners; Optuna's names for it all."""
