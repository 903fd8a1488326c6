"""HTTP requests from Python, sent by hotlap: application logic here, the heavy
lifting in a co-process.

    async with hotlap.Client(connections=64, pipeline="auto") as client:
        response = await client.get(url)
        async for r in client.stream(urls):
            ...

    for r in hotlap.fetch(urls):
        ...
"""

from ._client import Client
from ._errors import (
    Canceled,
    ConnectError,
    ConnectionClosed,
    DNSError,
    EngineError,
    HotlapError,
    InvalidRequest,
    NetworkError,
    ProtocolError,
    ProxyError,
    ReadError,
    RequestError,
    StatusError,
    Timeout,
    TLSError,
    TooLarge,
    WriteError,
)
from ._fetch import fetch
from ._messages import Headers, Request, Response, Times

__version__ = "0.1.0"

__all__ = [
    "Canceled",
    "Client",
    "ConnectError",
    "ConnectionClosed",
    "DNSError",
    "EngineError",
    "Headers",
    "HotlapError",
    "InvalidRequest",
    "NetworkError",
    "ProtocolError",
    "ProxyError",
    "ReadError",
    "Request",
    "RequestError",
    "Response",
    "StatusError",
    "TLSError",
    "Timeout",
    "Times",
    "TooLarge",
    "WriteError",
    "fetch",
]
