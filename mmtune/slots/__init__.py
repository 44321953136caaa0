"""Warm worker groups on a Ray cluster, which serve trial after trial."""
