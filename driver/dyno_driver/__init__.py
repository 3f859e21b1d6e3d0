"""Load: prompts replayed through the proxy, and the simulated endpoints."""
