"""The only two files that change a byte of what passes through the proxy. Pure."""
