"""Runs SQL statements, a user's read-only, and gives their rows."""
