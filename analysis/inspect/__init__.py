"""What needs a trained model: its features, mistakes, attention, latent space. torch is imported inside functions."""
