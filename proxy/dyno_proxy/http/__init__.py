"""HTTP as bytes: heads, framing, server-sent events, content codings. Pure."""
