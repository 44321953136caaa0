"""``python -m mmtune.cli``."""

from mmtune.cli import main

main()
