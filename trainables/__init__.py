"""What one trial trains: model families, losses, metrics, data and the training loop. Runs without Ray."""
