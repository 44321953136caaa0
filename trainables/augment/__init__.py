"""Augmented copies of texts and images."""
