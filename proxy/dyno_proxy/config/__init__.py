"""dyno.toml: what it may hold, how it is read, what is checked."""
