"""Verdicts on the claims that a published benchmark left untested."""
