"""The proxy's processes: their sockets, their signals, and how they take on a new configuration."""
