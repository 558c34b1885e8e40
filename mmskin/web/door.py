"""Who and what gets through to the page: its own requests alone, complete, within the limits, under its own name."""

import asyncio
import json
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from mmskin.web.uploads import Refusal, Uploads, body_of

__all__ = ['Connection', 'Door']

GRADIO = '/gradio_api'
UPLOAD, PROGRESS = f'{GRADIO}/upload', f'{GRADIO}/upload_progress'
JOIN, ANSWERS = f'{GRADIO}/queue/join', f'{GRADIO}/queue/data'
# All that the page asks for. Gradio has 60 more routes, some of which run the network past its queue.
OPEN = {
    'HEAD': re.compile('/'),
    'GET': re.compile(
        r'/|/config/?|/(theme\.css|manifest\.json|favicon\.ico|robots\.txt)|/(assets|static)/[\w./@-]+'
        rf'|{GRADIO}/(app_id|upload_progress|queue/data|heartbeat/\w+)'
    ),
    'POST': re.compile(f'{UPLOAD}|{JOIN}'),
}
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; base-uri 'self'; form-action 'self'; "
    "object-src 'none'; frame-ancestors 'self'"
)
HEADERS = [(b'content-security-policy', POLICY.encode()), (b'referrer-policy', b'no-referrer')]
PATIENCE = 20  # seconds for the head of a request, and for the other side to read some of an answer
FIELD = 100  # letters of an age, a sex and so on
FUNCTION = 0  # as Gradio numbers them: the page has one, its answer
QUESTION = 1_000_000  # bytes at most of a question to the queue, which names some uploads


class Door:
    """Lets through what the page asks for, keeps uploads itself, and refuses all else.

    Every response tells the browser to load nothing from any other address, whatever Gradio's files name.

    Args:
        app: The page.
        uploads: Where images lie until they are answered.
        hosts: Names under which the page may be asked for, besides the address that a request came to. Any other may be
            of a site that had its own name point here, to read answers (DNS rebinding).
        num_fields: How many the page has beside its images.
        proxy: The address whose ``X-Forwarded-*`` headers count; by default they are dropped.
    """

    def __init__(
        self, app: ASGIApp, uploads: Uploads, hosts: Collection[str], num_fields: int, proxy: str | None = None
    ) -> None:
        self.app: Any = app if proxy is None else ProxyHeadersMiddleware(app, proxy)  # type: ignore[arg-type]
        self.uploads = uploads
        self.num_fields = num_fields
        self.hosts = {host.strip('[]').lower() for host in hosts}
        self.proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run in the background while the server does."""
        if scope['type'] == 'lifespan':
            sweep = asyncio.create_task(self.uploads.sweep(self.forget))
            await self.app(scope, receive, send)
            sweep.cancel()
            return

        async def send_with_policy(message: Message) -> None:
            if message['type'] == 'http.response.start':
                message['headers'] = [*message['headers'], *HEADERS]
            await send(message)

        try:
            await self.answer(scope, receive, send_with_policy)
        except Refusal as refusal:  # the connection ends, since what is left of the request is not read
            response = PlainTextResponse(str(refusal), refusal.status, headers={'connection': 'close'})
            await response(scope, receive, send_with_policy)
        except asyncio.CancelledError:  # the server ends
            pass

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Raises:
            Refusal: if it is not of the page, or above a limit.
        """
        self.check(scope)
        if self.proxy is None or scope['client'][0] != self.proxy:
            kept = [
                (key, value) for key, value in scope['headers'] if not key.startswith((b'x-forwarded', b'forwarded'))
            ]
            scope = {**scope, 'headers': kept}
        if scope['path'] == UPLOAD:
            paths = await self.uploads.store(scope, receive)
            await JSONResponse([*map(str, paths)])(scope, receive, send)
        elif scope['path'] == PROGRESS:  # Gradio tells of uploads that it took itself
            await PlainTextResponse('', media_type='text/event-stream')(scope, receive, send)
        elif scope['path'] == JOIN:
            await self.join(scope, receive, send)
        elif scope['path'] == ANSWERS:
            (session,) = parse_qs(scope['query_string'].decode('latin-1')).get('session_hash', [''])[:1]
            if session not in self.uploads.sessions:
                raise Refusal(404, 'nothing was asked, or nobody came for the answer')
            with self.uploads.awaited(session):
                await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def forget(self, session: str) -> None:
        """Wait for a session's answers, and hang up: Gradio then drops them, which it would else keep for ever."""

        async def hang_up() -> Message:
            await asyncio.sleep(0.1)
            return {'type': 'http.disconnect'}

        async def send(message: Message) -> None:
            pass

        scope: Scope = {
            'type': 'http',
            'asgi': {'version': '3.0', 'spec_version': '2.3'},  # in which a response ends as the other side hangs up
            'http_version': '1.1',
            'method': 'GET',
            'scheme': 'http',
            'path': ANSWERS,
            'query_string': urlencode({'session_hash': session}).encode(),
            'headers': [(b'host', b'localhost')],
            'client': ('127.0.0.1', 0),
            'server': ('127.0.0.1', 0),
        }
        with suppress(Exception):  # such as that there is no answer
            await asyncio.wait_for(self.app(scope, hang_up, send), PATIENCE)

    def check(self, scope: Scope) -> None:
        """Refuse what is not a request of the page, before anything of its body is read."""
        headers = Headers(scope=scope)
        own = {*self.hosts, scope['server'][0]}
        if hostname(f'//{headers.get("host", "")}') not in own:
            raise Refusal(400, 'this page is not known under that name; mmskin serve --allow-host NAME adds one')
        if 'origin' in headers and hostname(headers['origin']) not in own:
            raise Refusal(403, 'another site may not ask this page')
        known = OPEN.get(scope['method'])
        if known is None or not known.fullmatch(scope['path']) or '..' in scope['path']:
            raise Refusal(404, 'not of this page')
        if scope['method'] != 'POST' and (headers.get('content-length', '0') != '0' or 'transfer-encoding' in headers):
            raise Refusal(413, 'a body that this page does not read')

    async def join(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a question on to Gradio's queue, where it asks about uploads of this page and nothing else."""
        body = b''.join([part async for part in body_of(scope, receive, QUESTION, self.uploads.limits.seconds)])
        try:
            question = json.loads(body)
            session = str(question['session_hash'])
            files, *fields = question['data']  # which are what the network is told beside the images
            typed = all(one is None or isinstance(one, str | int | float) and len(str(one)) < FIELD for one in fields)
            if not typed or len(fields) != self.num_fields:
                raise ValueError('a field that nobody typed')
            names = [(str(file['path']), str(file.get('orig_name') or 'image')) for file in files or ()]
            if question['fn_index'] != FUNCTION:
                raise ValueError('a function that the page does not have')
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Refusal(400, 'not a question of this page') from error
        paths = [path for path, _ in names]
        self.uploads.claim(paths, session)
        data = [{'path': path, 'orig_name': name, 'meta': {'_type': 'gradio.FileData'}} for path, name in names]
        content = json.dumps({'data': [data, *fields], 'fn_index': FUNCTION, 'session_hash': session}).encode()
        status = 0

        async def replay() -> Message:
            return {'type': 'http.request', 'body': content, 'more_body': False}

        async def watch(message: Message) -> None:
            nonlocal status
            status = message.get('status', status)
            await send(message)

        length = (b'content-length', str(len(content)).encode())
        headers = [(b'content-type', b'application/json'), length]
        headers += [pair for pair in scope['headers'] if pair[0] not in (b'content-type', b'content-length')]
        await self.app({**scope, 'headers': headers}, replay, watch)
        if status != 200:  # such as a queue that is full
            self.uploads.discard(map(Path, paths))


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
        """End at once as the server ends: an open page would have it wait."""
        self.transport.close()


def hostname(url: str) -> str | None:
    """The host that a URL names, if any."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
