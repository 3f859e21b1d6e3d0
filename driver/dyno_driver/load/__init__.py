"""The load that a run offers: when each request is due, in which order they go, and how many are open at once. Pure."""
