"""The command line: verbs, thin, one file a group; each imports what it needs inside, so that --help is instant."""

from __future__ import annotations

import contextlib
import gc
import os
import sys


def main() -> None:
    """Entry point: errors that a user can cause are one message and exit code 2.

    Where Ray was in it the process ends at once: a thread of Ray's that still runs can crash while Python takes its
    modules down, and the exit code would be another.
    """
    gc.set_threshold(50_000, 20, 20)  # as Python has it, a sixth of a start's time goes into it, while modules come in
    from mmtune.cli.app import app

    try:
        app()
    except SystemExit as end:
        if "ray" in sys.modules and isinstance(end.code, int):
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):  # nobody reads it any more
                    stream.flush()
            os._exit(end.code)
        raise
