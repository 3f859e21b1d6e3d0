"""The measuring reverse proxy."""
