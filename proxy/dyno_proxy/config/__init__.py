"""dyno.toml: its keys, how it is read, and what is checked."""
