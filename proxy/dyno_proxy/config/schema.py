"""The keys of `dyno.toml`. Each is a `DYNO_…` variable too, and all are checked before anything starts.

DYNO_PROXY_LISTEN overrides `[proxy] listen`, DYNO_ENDPOINTS_METIS_URL `[endpoints.metis] url`,
DYNO_ENDPOINTS_METIS_TOKEN_ENV its `token.env`, and so on. An endpoint may be configured by variables alone.
"""

import msgspec


class ConfigError(ValueError):
    """A configuration that can't be used. The message is one line that names the key, its origin and the mend."""


class TokenConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[endpoints.NAME.token]`: where the endpoint's token comes from. Exactly one of the first three is set."""

    env: str | None = None  # an environment variable that holds it
    file: str | None = None  # a file that holds it; it is read again when it changes
    command: str | None = None  # a command that prints it; no shell runs it
    # How long a command's token lasts, unless it is a JWT with `exp`. ALCF's last 48 h; its command renews them itself.
    refresh_s: float = 3600.0


class PriceConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[endpoints.NAME.price]`: list prices per million tokens, in a currency of your choice."""

    input_per_million: float
    output_per_million: float


class TimeoutsConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Limits in seconds. None is no limit, since a model may think for long."""

    connect_s: float = 30.0  # until there is a connection, TLS and an HTTP proxy's CONNECT included
    first_byte_s: float | None = None  # from the request's last byte to the first of the response
    idle_s: float | None = None  # between two reads of the response
    total_s: float | None = None  # from the request's head to the response's end


class MirrorConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[endpoints.NAME.mirror]`: another endpoint gets copies of a share of the requests; the answers are dropped."""

    to: str
    share: float
    max_requests: int = 4  # at once; a copy beyond that isn't sent, but counted


class EndpointConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[endpoints.NAME]`: an OpenAI-compatible server, how to reach it, and what is known of it."""

    url: str
    origin: str | None = None  # where paths beside /v1 go; `url` less a final /v1, where nothing else is in its path
    model: str | None = None
    provider: str | None = None
    hardware: str | None = None
    token: TokenConfig | None = None
    price: PriceConfig | None = None
    power_w: float | None = None  # W that the endpoint draws, for the reports
    # What the driver may send, such as "10/s" or "600/min". The proxy itself holds no request back.
    rate_limit: str | None = None
    rate_limit_burst: int = 1  # how many may come at once after a rest
    session_header: str | None = None  # by this header the endpoint knows a session; the driver sends it
    propagate: bool = False  # the endpoint gets the proxy's own span as `traceparent`, in place of the client's
    proxy: str | None = None  # http://[USER:PASSWORD@]HOST:PORT; CONNECT for https, absolute form for http
    ca_file: str | None = None  # PEM; replaces the system's certificate authorities
    client_cert_file: str | None = None  # PEM; shown to a server that asks for a certificate
    client_key_file: str | None = None  # PEM; None: the key is in client_cert_file
    timeouts: TimeoutsConfig = TimeoutsConfig()
    retries: int = 0  # how often a request is sent again while no byte of a response came
    ask_usage: bool = False
    hidden_reasoning: bool = False  # the model reasons, and neither the text nor the token count is shown
    mirror: MirrorConfig | None = None


class ProxyConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[proxy]`: where it listens and writes, and what it bears from clients."""

    listen: str = "127.0.0.1:8080"
    spans: str = "spans"
    metrics_listen: str | None = None
    keys_file: str | None = None
    hosts: tuple[str, ...] = ()  # names in `Host` that a listener on loopback accepts beside those of loopback
    cors_origins: tuple[str, ...] = ()  # whose web pages may ask; `*` for all, where keys are configured
    allow_other_users: bool = False  # on loopback, without keys: of this machine, also where an endpoint has a token
    workers: int = 1
    log_requests: bool = False  # a line for each request that has ended
    drain_s: float = 30.0  # how long running requests may still take after SIGTERM
    max_requests: int = 4096  # requests that may run at once; further ones get 503 with Retry-After
    max_head_bytes: int = 65_536  # of a request
    max_body_bytes: int | None = None  # of requests with an operation (chat, …); uploads have no limit
    head_timeout_s: float = 15.0  # from a request's first byte to the end of its head
    client_idle_s: float = 120.0  # how long a client may neither send the rest of its body nor read its answer


class SpansConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[spans]`: who may read span files, and what happens to them as they grow old."""

    compact: bool = True  # `dyno compact` turns full journals into Parquet
    keep: str | None = None  # an age or a size; spans beyond it are deleted, the oldest first
    group: str | None = None  # may read what is written; None: only the proxy's own user may
    user: str = "hmac"  # what is kept of a request's `user`: its HMAC with this installation's key, or "clear"


class CollectorConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[collector]`: the OTLP receiver."""

    listen: str | None = None  # where `dyno proxy` runs a collector beside it; None: it runs none


class OtlpConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`[otlp]`: the export of spans, where OpenTelemetry's variables name an endpoint."""

    keep: str = "24h"  # an age; spans that wait longer for the endpoint aren't sent any more, but counted


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole configuration."""

    proxy: ProxyConfig = ProxyConfig()
    spans: SpansConfig = SpansConfig()
    collector: CollectorConfig = CollectorConfig()
    otlp: OtlpConfig = OtlpConfig()
    endpoints: dict[str, EndpointConfig] = {}
