"""The driver: it replays prompts through the proxy, and it simulates endpoints."""
