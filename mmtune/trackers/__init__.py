"""Sends studies to experiment trackers, from a process beside the driver that reads the study folder."""
