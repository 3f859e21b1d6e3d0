"""Traces of real traffic: their shapes, files and span folders → requests with times and lengths."""
