"""The picture of one trace. Pure."""
