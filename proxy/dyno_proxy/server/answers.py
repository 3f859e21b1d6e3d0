"""The proxy's own answers, in OpenAI's shape."""

import json
from http import HTTPStatus

from aiohttp import web


def error_response(status: int, code: str, message: str) -> web.Response:
    """An error of the proxy's own, in OpenAI's shape, so that SDKs raise it as their own error."""
    response = web.Response(status=status, text=_body(code, message), content_type="application/json")
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"  # RFC 9110, 15.5.2, demands it of every 401
    return response


def raw_error(status: int, code: str, message: str) -> bytes:
    """The same as bytes, for a request that no handler sees. The connection ends with it."""
    body = _body(code, message).encode()
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json; charset=utf-8\r\n"
    return b"%bContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (head.encode(), len(body), body)


def _body(code: str, message: str) -> str:
    return json.dumps({"error": {"message": message, "type": "dyno_proxy_error", "code": code}})
