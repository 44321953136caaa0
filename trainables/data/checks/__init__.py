"""The parts of :mod:`trainables.data.check`."""
