"""Simulated endpoints. Pure modules draw, write and script the answers; only `server` does I/O."""
