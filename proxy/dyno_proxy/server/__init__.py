"""The client's side, and the only room that knows aiohttp's server."""
