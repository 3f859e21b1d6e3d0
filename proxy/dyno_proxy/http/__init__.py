"""Bytes and HTTP: heads, framing, server-sent events, content codings. Pure."""
