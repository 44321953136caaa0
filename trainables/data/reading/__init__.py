"""What the readers of all formats share: rows and why one was left out, files, splits, targets."""
