"""Augmented views for UDA: words replaced by their neighbours, images by RandAugment."""
