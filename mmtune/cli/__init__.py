"""The command line: verbs, thin, one file a group; each imports what it needs inside, so that --help is instant."""

from __future__ import annotations


def main() -> None:
    """Entry point: errors that a user can cause are one message and exit code 2."""
    from mmtune.cli.app import app

    app()
