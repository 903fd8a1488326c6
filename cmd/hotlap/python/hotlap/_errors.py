"""Exceptions. Each kind of error that the engine knows has its class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple, Type

if TYPE_CHECKING:
    from ._messages import Request, Response


class HotlapError(Exception):
    """The base of all exceptions of this package."""


class EngineError(HotlapError):
    """The co-process could not be found or started, or has died.

    Requests that were in flight when it died end with this; whether a server
    has acted on them is not known.
    """


class StatusError(HotlapError):
    """A response whose status is 400 or more: see Response.raise_for_status."""

    def __init__(self, message: str, response: Response) -> None:
        super().__init__(message)
        self.response = response

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.args[0], self.response)

    @property
    def request(self) -> Request:
        return self.response.request


class RequestError(HotlapError):
    """A request that got no complete response.

    kind and phase are the engine's names of what happened and how far the
    request had come, such as "timeout" and "head". response has what arrived:
    its status_code is 0 if nothing did.
    """

    kind = ""

    def __init__(self, message: str, kind: str, phase: str, response: Response) -> None:
        super().__init__(message)
        self.kind = kind
        self.phase = phase
        self.response = response

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.args[0], self.kind, self.phase, self.response)

    @property
    def request(self) -> Request:
        return self.response.request

    def __str__(self) -> str:
        return f"{shown(self.request.method)} {shown(self.request.url)}: {self.kind} ({self.phase}): {self.args[0]}"


def shown(url: str) -> str:
    """A URL without a password, not too long, and such that a terminal or a log can take it."""
    scheme, sep, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if sep and at:
        url = scheme + sep + "***@" + host + slash + path
    if len(url) > 200:
        url = url[:200] + "..."
    return url if url.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in url)


class InvalidRequest(RequestError, ValueError):
    """The request was never valid: bad URL, header or method. Some of these the
    package finds, before the engine has seen the request."""


class NetworkError(RequestError):
    """The network, or the peer, did not let the exchange happen."""


class DNSError(NetworkError):
    """The host name did not resolve."""


class ConnectError(NetworkError):
    """No address of the host accepted a connection."""


class TLSError(NetworkError):
    """The TLS handshake or the peer's certificate failed."""


class ProxyError(NetworkError):
    """The proxy refused, failed, or answered what is no proxy's answer."""


class WriteError(NetworkError):
    """The request could not be written in full."""


class ReadError(NetworkError):
    """The socket failed while the response was awaited or read."""


class ConnectionClosed(NetworkError):
    """The connection was closed before the response was complete."""


class Timeout(RequestError, TimeoutError):
    """A time limit passed."""


class ProtocolError(RequestError):
    """The bytes received are not a valid HTTP/1.1 response."""


class TooLarge(RequestError):
    """The response head, or another part with a bound, was over that bound."""


class Canceled(RequestError):
    """The request was canceled."""


_CLASSES: Dict[str, Type[RequestError]] = {
    "invalid_request": InvalidRequest,
    "unsupported": InvalidRequest,
    "dns": DNSError,
    "connect": ConnectError,
    "tls": TLSError,
    "proxy": ProxyError,
    "write": WriteError,
    "read": ReadError,
    "closed": ConnectionClosed,
    "timeout": Timeout,
    "protocol": ProtocolError,
    "too_large": TooLarge,
    "canceled": Canceled,
}


def error_class(kind: str) -> Type[RequestError]:
    """The class for a kind; kinds of a newer engine are RequestError."""
    return _CLASSES.get(kind, RequestError)


def as_died(what: str, stderr: Optional[str]) -> EngineError:
    """The one error for an engine that is gone, with what it said."""
    return EngineError(what + (f"; it said: {stderr}" if stderr else ""))
