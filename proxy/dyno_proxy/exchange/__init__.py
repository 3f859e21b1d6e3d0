"""One request's life as values: its stamps, its outcome, its record. Pure."""
