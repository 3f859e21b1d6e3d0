"""Figures with intervals. Pure."""
