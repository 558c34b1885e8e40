"""Who and what gets through to a page or a service: its own requests alone, complete, within limits, in its name."""

import asyncio
import ipaddress
import re
import signal
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any

import uvicorn
from h11 import LocalProtocolError
from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from mmskin.errors import Mistake
from mmskin.web.limits import MEGA

POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; base-uri 'self'; form-action 'self'; "
    "object-src 'none'; frame-ancestors 'self'"
)
HEADERS = [(b'content-security-policy', POLICY.encode()), (b'referrer-policy', b'no-referrer')]
BUSY = (503, 507)  # what waits here, or the disk, is full
PATIENCE = 20  # seconds for the head of a request, and for the other side to read some of an answer
RATE = 20_000  # bytes a second, counted again whenever a request pauses: what comes in drops is dropped, too
CONNECTIONS = 1500  # at a time, with half ones; the rest hears 503
FIELDS = 10  # of a form besides its files, which browsers and clients may add
HOST = re.compile(r'(\[[0-9a-f:.]+\]|[\w.-]+)(:\d{0,5})?', re.ASCII | re.IGNORECASE)  # of RFC 9110: no user, no path
DESCRIPTORS = 4096  # a connection, its upload's file, and what Python and the network hold open


class Refusal(Exception):
    """A request that gets no further, with the status and the words for it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Door:
    """Lets through what is asked of a page or a service, under its own names, and refuses all else.

    Every response tells the browser to load nothing from any other address, whatever its files name.

    Args:
        app: What is asked.
        address: Whose names count. Any other may be of a site that had its own name point here, to read answers (DNS
            rebinding).
    """

    name = 'page'
    again = b'60'  # seconds after which a busy page may have room
    open: Mapping[str, re.Pattern] = {}  # paths by method

    def __init__(self, app: ASGIApp, address: 'Address') -> None:
        self.proxy = address.proxy
        self.app: Any = app if self.proxy is None else ProxyHeadersMiddleware(app, self.proxy)  # type: ignore[arg-type]
        self.hosts = {'localhost', '127.0.0.1', '::1', *map(hostname, (address.host, *address.names))} - {None}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run in the background while the server does."""
        if scope['type'] == 'lifespan':
            await self.live(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message['type'] == 'http.response.start':
                again = [(b'retry-after', self.again)] if message['status'] in BUSY else []
                message['headers'] = [*message['headers'], *HEADERS, *again]
            with suppress(LocalProtocolError):  # a body that is no HTTP has had its answer from the server
                await send(message)

        try:
            self.check(scope)
            if self.proxy is None or scope['client'][0] != self.proxy:
                headers = scope['headers']
                kept = [pair for pair in headers if not pair[0].startswith((b'x-forwarded', b'forwarded'))]
                scope = {**scope, 'headers': kept}
            await self.answer(scope, receive, send_with_policy)
        except Refusal as refusal:
            await self.refuse(refusal)(scope, receive, send_with_policy)
        except asyncio.CancelledError:  # the server ends
            pass

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What runs while the server does."""
        await self.app(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that is of the page."""
        await self.app(scope, receive, send)

    def refuse(self, refusal: 'Refusal') -> Response:
        """The response; the connection ends, since what is left of the request is not read."""
        return PlainTextResponse(str(refusal), refusal.status, headers={'connection': 'close'})

    def check(self, scope: Scope) -> None:
        """Refuse what is not a request of the page, before anything of its body is read."""
        headers = Headers(scope=scope)
        own = {*self.hosts, scope['server'][0]}
        if hostname(headers.get('host', '')) not in own:
            raise Refusal(
                400, f'this {self.name} is not known under that name; mmskin serve --allow-host NAME adds one'
            )
        scheme, _, origin = headers.get('origin', 'http://localhost').partition('://')
        if scheme not in ('http', 'https') or hostname(origin) not in own:
            raise Refusal(403, f'another site may not ask this {self.name}')
        known = self.open.get(scope['method'])
        if known is None or not known.fullmatch(scope['path']) or '..' in scope['path']:
            raise Refusal(404, f'not of this {self.name}')
        if scope['method'] != 'POST' and (headers.get('content-length', '0') != '0' or 'transfer-encoding' in headers):
            raise Refusal(413, f'a body that this {self.name} does not read')


@dataclass(frozen=True)
class Address:
    """Where a page or a service listens, and under which names.

    Attributes:
        host: Whom to listen to: 127.0.0.1 is this machine alone, 0.0.0.0 everybody.
        port: 0 is any that is free.
        names: Names by which it is asked for, besides ``localhost`` and addresses of this machine.
        proxy: The address of a web server before it, whose ``X-Forwarded-*`` headers count.
    """

    host: str = '127.0.0.1'
    port: int = 0
    names: Sequence[str] = ()
    proxy: str | None = None

    def __post_init__(self) -> None:
        for name in self.names:
            if hostname(name) is None:
                raise Mistake(f'--allow-host {name}: give a name or address alone, such as skin.example')
        try:
            ipaddress.ip_address(self.proxy or '127.0.0.1')
        except ValueError as error:
            raise Mistake(f'--trust-proxy {self.proxy}: give its address, such as 127.0.0.1') from error

    def listen(self) -> socket.socket:
        """A socket that listens there."""
        host = self.host.strip('[]')
        if not 0 <= self.port < 2**16:  # getaddrinfo would take it modulo 65536
            raise Mistake(f'--port {self.port}: give a number from 0 to 65535')
        try:
            family, _, _, _, address = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address, family=family, backlog=1024)
        except (OSError, OverflowError) as error:  # the latter of no port at all
            raise Mistake(
                f'{self.host}:{self.port} is in use, or not of this machine; choose another --host or --port'
            ) from error

    def url(self, listener: socket.socket) -> str:
        """Where ``listener`` is reached."""
        host = self.host.strip('[]')
        host = 'localhost' if host in ('0.0.0.0', '::') else f'[{host}]' if ':' in host else host
        return f'http://{host}:{listener.getsockname()[1]}/'


class Connection(H11Protocol):
    """uvicorn's connection, which also ends when no whole head of a request comes, or when an answer is not read."""

    def connection_made(self, transport: Any) -> None:
        """Start the watch."""
        super().connection_made(transport)
        self.waiting_since = self.loop.time()
        self.stuck_since: float | None = None
        self.watch()

    def watch(self) -> None:
        """End a connection that is stuck, and look again later at any other."""
        if self.transport.is_closing():
            return
        now = self.loop.time()
        answering = self.cycle is not None and not self.cycle.response_complete
        since = self.stuck_since if answering else self.waiting_since
        if since is not None and now - since > PATIENCE:
            self.transport.abort()
        else:
            self.loop.call_later(PATIENCE / 4, self.watch)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.waiting_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Note that the other side does not read."""
        self.stuck_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that it does."""
        self.stuck_since = None
        super().resume_writing()

    def shutdown(self) -> None:
        """End as the server ends: after the answer to what was posted, but at once for an open page, which waits."""
        if self.cycle is not None and self.scope['method'] == 'POST':
            super().shutdown()
        else:
            self.transport.close()


@contextmanager
def listening(door: Door, listener: socket.socket) -> Iterator[None]:
    """Inside the block, whoever connects to ``listener`` is at the door."""
    try:  # each connection and upload is a descriptor, of which a process may open few
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ImportError, OSError, ValueError):  # Windows has no such limit, and macOS one of its own below the hard one
        pass
    config = uvicorn.Config(
        door,
        loop='asyncio',
        http=Connection,
        ws='none',
        lifespan='on',
        log_level='warning',
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def until_told_to_end(what: str) -> None:
    """Say what is served, and wait for Ctrl-C or another signal to end."""
    try:
        print(f'serving {what} (Ctrl-C ends it)', flush=True)
        signal.pause() if hasattr(signal, 'pause') else input()
    except KeyboardInterrupt:
        print('\nended')


async def body_of(scope: Scope, receive: Receive, most: int, seconds: float) -> AsyncIterator[bytes]:
    """The body of a request, as it arrives: of ``most`` bytes.

    It may pause for some ``seconds``, in which it also has to bring what a slow line brings, see ``RATE``.

    Raises:
        Refusal: if it is larger, slower, without a stated length, or broken off.
    """
    headers = Headers(scope=scope)
    length = headers.get('content-length', '')
    if not length.isdecimal() or 'transfer-encoding' in headers:  # the latter wins over a length, and has none
        raise Refusal(411, 'a request has to state its length')
    refusal = Refusal(413, f'{int(length) / MEGA:.1f} MB at once; at most {most / MEGA:g} MB are accepted')
    if int(length) > 4 * most:
        raise refusal
    left, step, more = seconds, 0, True
    while more:
        asked = time.monotonic()
        try:
            message = await asyncio.wait_for(receive(), left)
        except asyncio.TimeoutError as error:
            raise Refusal(408, 'the request stopped half-way, or came too slowly') from error
        left -= time.monotonic() - asked  # not what this side takes to write it down
        if message['type'] == 'http.disconnect':
            raise Refusal(400, 'broken off')
        part, more = message.get('body', b''), message.get('more_body', False)
        step += len(part)
        if step >= RATE * seconds:
            left, step = seconds, 0
        if int(length) <= most:  # what is too much is read and dropped, or the connection is reset and the reason lost
            yield part
    if int(length) > most:
        raise refusal


async def form_of(headers: Headers, parts: AsyncGenerator[bytes, None], most_files: int) -> FormData:
    """The fields of a form, which are to be closed; one with too many ends where it has too many."""
    if not is_form(headers):
        raise Refusal(400, 'images come as a form')
    try:
        return await MultiPartParser(headers, parts, max_files=most_files, max_fields=FIELDS).parse()
    except (MultiPartException, ValueError) as error:  # the latter of names in an encoding that is none
        raise Refusal(400, str(error)) from error


def is_form(headers: Headers) -> bool:
    """Whether a request says that it is a form with files; capitals do not count."""
    return headers.get('content-type', '').lower().startswith('multipart/form-data')


def hostname(text: str) -> str | None:
    """The name or address in what a request says of its host, port left out; None if it says anything else."""
    match = HOST.fullmatch(text) or HOST.fullmatch(f'[{text}]')  # a user's IPv6 address need not have brackets
    return match[1].strip('[]').lower() if match else None
