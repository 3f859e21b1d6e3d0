"""The endpoints as the proxy uses them: where each one is, its connections, its token."""

import ssl
from typing import Any
from urllib.parse import urlsplit

from .auth import Token
from .config import ConfigError, EndpointConfig
from .pool import Pool


class Endpoint:
    """One configured endpoint. Raises ConfigError where its token can't work."""

    def __init__(self, name: str, config: EndpointConfig) -> None:
        parts = urlsplit(config.url)
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.name = name
        self.config = config
        self.provider = config.provider
        self.propagate = config.propagate
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if tls else 80)
        self.path = parts.path.rstrip("/")
        bracketed = f"[{self.host}]" if ":" in self.host else self.host
        default_port = parts.port is None or parts.port == (443 if tls else 80)
        self.host_header = (bracketed if default_port else f"{bracketed}:{self.port}").encode("ascii")
        self.pool = Pool(self.host, self.port, tls)
        self.token: Token | None = None
        if config.token is not None:
            source = config.token
            try:
                self.token = Token(
                    name, env=source.env, file=source.file, command=source.command, refresh_s=source.refresh_s
                )
            except ValueError as error:
                raise ConfigError(f"endpoints.{name}.token: {error}") from error

    def public(self) -> dict[str, Any]:
        """What `GET /endpoints` tells of it: nothing secret."""
        config = self.config
        price = None
        if config.price is not None:
            price = {
                "input_per_million": config.price.input_per_million,
                "output_per_million": config.price.output_per_million,
            }
        return {
            "name": self.name,
            "url": config.url,
            "model": config.model,
            "provider": config.provider,
            "hardware": config.hardware,
            "price": price,
            "power_w": config.power_w,
        }
