"""Middleware that protects a server on the loopback interface: it refuses foreign requests and large requests.

Other machines cannot reach the loopback interface, but pages of other sites can: a browser on this machine sends the
requests of these pages, with the name of their host (DNS rebinding) or with their ``Origin``.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LARGEST_REQUEST = 100 * 2**20
"""Largest size of a request in bytes. An upload counts with all of its files."""

# This policy makes the browser refuse every request of a widget to another machine
_POLICY = b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'"
_HERE = r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?"
_ADDRESSED = {b"host": re.compile(_HERE, re.IGNORECASE), b"origin": re.compile(rf"https?://{_HERE}", re.IGNORECASE)}


class TooLargeError(Exception):
    """Error for a request that is larger than :data:`LARGEST_REQUEST`."""


class LoopbackGuard:
    """Middleware that refuses foreign hosts, foreign origins and large requests.

    It also sends a policy that keeps the browser from sending requests of the page to other machines.

    Args:
        app (Callable): The ASGI application that gets the accepted requests.
    """

    def __init__(self, app: Callable) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if wrong := _foreign(scope["headers"]):
            await _refuse(scope, send, 403, f"{wrong}. Open the address that the web demo has printed.")
            return
        too_large = f"The request is larger than {LARGEST_REQUEST // 2**20} MB. Send a smaller file."
        if any(int(value) > LARGEST_REQUEST for value in _values(scope["headers"], b"content-length")):
            await _refuse(scope, send, 413, too_large)
            return
        received, has_begun = 0, False

        async def receive_some() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > LARGEST_REQUEST:  # a request in chunks has no header with its length
                raise TooLargeError(too_large)
            return message

        async def send_with_policy(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY)]
            await send(message)

        try:
            await self.app(scope, receive_some, send_with_policy)
        except TooLargeError:
            if has_begun:
                raise
            await _refuse(scope, send, 413, too_large)


def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key.lower() == name]


def _foreign(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the reason why a request is foreign, or "" if it is not."""
    if not _values(headers, b"host"):
        return "The request has no Host header"
    for name, known in _ADDRESSED.items():
        for value in _values(headers, name):
            if not known.fullmatch(value):
                return f"The request's {name.decode().title()} {value[:100]!r} is not this machine"
    return ""


async def _refuse(scope: Message, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": text[:100]})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
