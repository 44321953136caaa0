"""The parts of :mod:`trainables.data.check.table`."""
