"""Simulated endpoints: pure modules draw, write and script the answers; `server` alone does I/O."""
