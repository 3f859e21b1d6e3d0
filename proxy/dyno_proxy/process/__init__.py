"""Processes, sockets, signals, reload."""
