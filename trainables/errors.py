"""What ends a trial on every rank alike, so that the workers can go on to the next one."""

from __future__ import annotations


class AgreedError(RuntimeError):
    """An error that every rank raises at the same step: the process group stays usable."""


class NonFiniteError(AgreedError):
    """A loss, gradient or metric became nan or infinite."""


class OutOfMemoryError(AgreedError):
    """The configuration does not fit the device."""
