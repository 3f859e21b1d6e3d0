"""Sends the rows of the span files by OTLP, in a process of its own."""
