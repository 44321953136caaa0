"""What may vary: domains, conditions between them, corners; to and from Optuna's words."""
