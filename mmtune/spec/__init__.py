"""Search files and configs of one trial: read with the line of every key, checked, every problem raised at once."""
