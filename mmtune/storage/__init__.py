"""Studies in object storage: one driver writes, from a working folder on its node; readers fetch what they need."""
