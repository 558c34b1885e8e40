"""Serving the page: to this machine alone by default, with nothing kept, and nothing fetched from elsewhere."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mmskin.errors import Mistake
from mmskin.inference.inferencer import LesionInferencer
from mmskin.web.limits import Limits
from mmskin.web.page import build_page, import_gradio, part

if TYPE_CHECKING:
    import gradio

__all__ = ['OnlyFromHere', 'private_uploads', 'running', 'serve']

UPLOADS = 'GRADIO_TEMP_DIR'
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; base-uri 'self'; form-action 'self'; "
    "object-src 'none'; frame-ancestors 'self'"
)


class OnlyFromHere:
    """Tells the browser, with every response, to load nothing from any other address, whatever Gradio's files name.

    Args:
        app: The ASGI application.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer as the application does, with two more headers."""

        async def send_with_policy(message: Any) -> None:
            if message['type'] == 'http.response.start':
                message['headers'] = [
                    *message['headers'],
                    (b'content-security-policy', POLICY.encode()),
                    (b'referrer-policy', b'no-referrer'),
                ]
            await send(message)

        await self.app(scope, receive, send_with_policy)


def serve(inferencer: LesionInferencer, limits: Limits, title: str, host: str, port: int) -> None:
    """Serve until Ctrl-C, or until the process is told to end.

    Raises:
        MissingLibrary: if Gradio is not installed.
        Mistake: if the address is taken or not of this machine.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, so that the folder is removed
    with running(inferencer, limits, title, host, port) as (address, _):
        try:
            print(f'serving {title} at {address} (Ctrl-C ends it)', flush=True)
            signal.pause() if hasattr(signal, 'pause') else input()
        except KeyboardInterrupt:
            print('\nended')


@contextmanager
def running(
    inferencer: LesionInferencer, limits: Limits, title: str, host: str = '127.0.0.1', port: int | None = None
) -> Iterator[tuple[str, Path]]:
    """Inside the block the page is served.

    Args:
        inferencer: The model, loaded once.
        limits: What the page takes.
        title: Of the model, as the page names it.
        host: Whom to listen to: 127.0.0.1 is this machine alone, 0.0.0.0 everybody.
        port: A free one by default.

    Yields:
        The page's address, and the folder where uploads lie until they are answered.
    """
    with private_uploads() as folder:
        page = build_page(inferencer, limits, title)
        try:
            yield launch(page, limits, host, port), folder
        finally:
            page.close(verbose=False)


def launch(page: 'gradio.Blocks', limits: Limits, host: str, port: int | None) -> str:
    """Start the server in a thread of its own; gives the address."""
    gradio = import_gradio()
    from starlette.middleware import Middleware

    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=[],
            max_file_size=limits.bytes,
            theme=gradio.themes.Default(
                primary_hue='teal', font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace']
            ),
            css=part('page.css'),
            app_kwargs={'middleware': [Middleware(OnlyFromHere)]},
        )
    except (OSError, OverflowError) as error:  # the latter of no port at all
        raise Mistake(f'{host}:{port} is taken, or not of this machine; name another by --host or --port') from error
    return address


@contextmanager
def private_uploads() -> Iterator[Path]:
    """A folder for what is uploaded, which is removed in the end, with whatever is in it."""
    before = os.environ.get(UPLOADS)
    with TemporaryDirectory(prefix='mmskin-') as folder:
        os.environ[UPLOADS] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop(UPLOADS)
            if before is not None:
                os.environ[UPLOADS] = before
