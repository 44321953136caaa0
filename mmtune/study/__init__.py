"""A study from its first second to its last: create, plan, run, resume, and the ledger of what happened."""
