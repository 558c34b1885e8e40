"""Who and what gets through to the page of ``mmskin serve``: of Gradio's routes, those that it needs."""

import asyncio
import json
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlencode

from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmskin.web.door import PATIENCE, Address, Door, Refusal, body_of
from mmskin.web.uploads import Uploads

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
FIELD = 100  # letters of an age, a sex and so on
SESSION = re.compile(r'[\w-]{1,64}', re.ASCII)
FUNCTION = 0  # as Gradio numbers them: the page has one, its answer
QUESTION = 1_000_000  # bytes at most of a question to the queue, which names some uploads


class PageDoor(Door):
    """Lets through what the page asks for, keeps uploads itself, and refuses all else.

    Args:
        app: The page.
        address: Where it is asked for.
        uploads: Where images lie until they are answered.
        num_fields: How many the page has beside its images.
    """

    open = OPEN

    def __init__(self, app: ASGIApp, address: Address, uploads: Uploads, num_fields: int) -> None:
        super().__init__(app, address)
        self.uploads = uploads
        self.num_fields = num_fields

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Remove uploads that nobody waits for, while the server runs."""
        sweep = asyncio.create_task(self.uploads.sweep(self.forget))
        await self.app(scope, receive, send)
        sweep.cancel()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of the page."""
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

    async def join(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a question on to Gradio's queue, where it asks about uploads of this page and nothing else."""
        body = b''.join([part async for part in body_of(scope, receive, QUESTION, self.uploads.limits.seconds)])
        try:
            question = json.loads(body)
            session = question['session_hash']
            if not SESSION.fullmatch(session):
                raise ValueError('a session that no page named')
            files, *fields = question['data']  # which are what the network is given with the images
            typed = all(
                cell is None or isinstance(cell, str | int | float) and len(str(cell)) < FIELD for cell in fields
            )
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
