"""What ends a trial on every rank alike, so that the workers can go on to the next one; what is no trial's fault."""

from __future__ import annotations


class AgreedError(RuntimeError):
    """An error that every rank raises at the same step: the process group stays usable."""


class NonFiniteError(AgreedError):
    """A loss, gradient or metric became nan or infinite."""


class OutOfMemoryError(AgreedError):
    """The configuration does not fit the device."""


class PreemptedError(RuntimeError):
    """A process was wanted back: the trial stands in ``middle.safetensors``, and goes on there."""


class FaultError(AgreedError):
    """Storage or data failed, not what is trained: every other trial would fail alike."""


class StorageError(ValueError):
    """A place that files are written to cannot take them, or data are others than before; one rank's own."""


def fault_text(error: BaseException) -> str:
    """A fault in words: the file, where there is one, and what the system says of it."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def is_fault(error: BaseException) -> bool:
    """Whether an error is of storage or data: the system's, of a file, or one of the two above."""
    return isinstance(error, FaultError | StorageError) or (
        isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError | ChildProcessError)
    )
