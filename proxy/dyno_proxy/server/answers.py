"""The proxy's own answers, in OpenAI's shape."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

_CHALLENGE: Final = ("WWW-Authenticate", "Bearer")  # RFC 9110, 15.5.2, demands it of every 401


def error_response(status: int, code: str, message: str) -> web.Response:
    """An error of the proxy's own, in OpenAI's shape, so that SDKs raise it as their own error."""
    response = web.Response(status=status, text=_body(code, message), content_type="application/json")
    if status == 401:
        response.headers.add(*_CHALLENGE)
    return response


def raw_error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> bytes:
    """The same as bytes, with further headers. The connection ends with it."""
    body = _body(code, message).encode("utf-8", "replace")
    fields = [("Content-Type", "application/json; charset=utf-8"), *(headers or {}).items()]
    if status == 401:
        fields.append(_CHALLENGE)
    fields += [("Content-Length", str(len(body))), ("Connection", "close")]
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body


def _body(code: str, message: str) -> str:
    error = {"message": message, "type": "dyno_proxy_error", "code": code}
    return json.dumps({"error": error}, ensure_ascii=False)
