"""Reads HOST:PORT."""

import ipaddress


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of `host:port`, `[::1]:port` or `:port`, whose host is 127.0.0.1. Raises ValueError otherwise."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"'{address}' must be HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
