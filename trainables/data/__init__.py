"""From a dataset's files to batches: formats read, prepare and features cache, loader serves."""
