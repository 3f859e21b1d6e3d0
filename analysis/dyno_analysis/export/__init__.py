"""Stored rows as lines of span files, for another folder or another program."""
