"""How `dyno proxy` runs: its processes, sockets and signals, and how it takes a new configuration."""
