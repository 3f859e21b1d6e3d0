"""An endpoint as the proxy uses it: its address, its TLS, the HTTP proxy on the way, its connections, its token."""

import ssl
from typing import Any
from urllib.parse import urlsplit

from dyno_proxy.config.check import rate_per_s
from dyno_proxy.config.schema import ConfigError, EndpointConfig

from .pool import Pool
from .tls import TlsFileError, tls_context
from .token import Token
from .tunnel import HttpProxy
from .usage_asking import UsageAsking


class Endpoint:
    """One configured endpoint. Raises ConfigError where its token, its host's name or its TLS files can't work."""

    def __init__(self, name: str, config: EndpointConfig) -> None:
        parts = urlsplit(config.url)
        self.name = name
        self.config = config
        self.provider = config.provider
        self.propagate = config.propagate
        self.host = _host(name, parts.hostname or "")
        tls = _tls(name, config) if parts.scheme == "https" else None
        self.port = parts.port or (443 if tls else 80)
        self.path = parts.path.rstrip("/")
        bracketed = f"[{self.host}]" if ":" in self.host else self.host
        default_port = parts.port is None or parts.port == (443 if tls else 80)
        self.host_header = (bracketed if default_port else f"{bracketed}:{self.port}").encode("ascii")
        proxy = _proxy(name, config)
        # An HTTP proxy without a tunnel gets the whole URL as the request's target, and its password in each request.
        absolute = proxy is not None and tls is None
        before_path = f"http://{self.host_header.decode()}" if absolute else ""
        self.target_prefix = before_path + self.path
        self.before_path_characters = len(before_path)  # of a request's target, before its path
        origin_path = _origin_path(config, self.path)
        self.origin_prefix = None if origin_path is None else before_path + origin_path
        self.proxy_authorization = proxy.authorization if proxy is not None and absolute else None
        self.pool = Pool(self.host, self.port, tls=tls, proxy=proxy, connect_s=config.timeouts.connect_s)
        self.token = _token(name, config)
        self.usage_asking = UsageAsking(name) if config.ask_usage else None
        # What the proxy shows of its own: whoever reaches the endpoint through it, reaches it as the proxy's user.
        shown = (self.token, config.client_cert_file, proxy and proxy.authorization)
        self.holds_credential = any(each is not None for each in shown)

    def public(self) -> dict[str, Any]:
        """What `GET /endpoints` says of it. Nothing of that is secret."""
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
            "rate_limit": _rate_limit(config),
            "session_header": config.session_header,
        }


def _rate_limit(config: EndpointConfig) -> dict[str, Any] | None:
    if config.rate_limit is None:
        return None
    return {"per_s": rate_per_s(config.rate_limit), "burst": config.rate_limit_burst}


def _origin_path(config: EndpointConfig, path: str) -> str | None:
    """The path below which requests beside /v1 go; None where they go nowhere."""
    if config.origin is not None:
        return urlsplit(config.origin).path.rstrip("/")
    return "" if path in ("", "/v1") else None


def _host(name: str, host: str) -> str:
    try:
        host.encode("idna")  # as the resolver will do
    except UnicodeError as error:
        raise ConfigError(f"endpoints.{name}.url: '{host}' isn't a host name: {error}") from error
    return host


def _proxy(name: str, config: EndpointConfig) -> HttpProxy | None:
    if config.proxy is None:
        return None
    try:
        return HttpProxy.of_url(config.proxy)
    except ValueError:  # the message might repeat the password
        raise ConfigError(f"endpoints.{name}.proxy must be the URL of an HTTP proxy; write http://HOST:PORT") from None


def _tls(name: str, config: EndpointConfig) -> ssl.SSLContext:
    try:
        return tls_context(config.ca_file, config.client_cert_file, config.client_key_file)
    except TlsFileError as error:
        raise ConfigError(f"endpoints.{name}.{error.key}: {error}") from error


def _token(name: str, config: EndpointConfig) -> Token | None:
    source = config.token
    if source is None:
        return None
    try:
        return Token(name, env=source.env, file=source.file, command=source.command, refresh_s=source.refresh_s)
    except ValueError as error:
        raise ConfigError(f"endpoints.{name}.token: {error}") from error
