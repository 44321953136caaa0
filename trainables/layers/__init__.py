"""Layers that more than one model family uses."""
