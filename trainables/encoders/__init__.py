"""Pretrained and random encoders by name, and the ports through which they enter a family."""
