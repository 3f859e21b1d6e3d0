"""The tables, verdicts and findings of a run, and the files that they are written to."""
