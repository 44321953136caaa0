"""What it holds is tested with movielens_top."""

from test_movielens_top import write

__all__ = ["write"]
