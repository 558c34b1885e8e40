"""Serving the page: to this machine alone by default, with nothing kept, and nothing fetched from elsewhere."""

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Thread

from mmskin.errors import Mistake
from mmskin.inference.inferencer import LesionInferencer
from mmskin.web.limits import Limits
from mmskin.web.page import build_page, import_gradio, part

__all__ = ['Address', 'running', 'serve']

UPLOADS = 'GRADIO_TEMP_DIR'
CONNECTIONS = 1500  # at a time, with half ones; the rest hears 503
DESCRIPTORS = 4096  # a connection, its upload's file, and what Python and the network hold open


@dataclass(frozen=True)
class Address:
    """Where the page listens, and under which names.

    Attributes:
        host: Whom to listen to: 127.0.0.1 is this machine alone, 0.0.0.0 everybody.
        port: 0 is any that is free.
        names: Names by which the page is asked for, besides ``localhost`` and addresses of this machine.
        proxy: The address of a web server before it, whose ``X-Forwarded-*`` headers count.
    """

    host: str = '127.0.0.1'
    port: int = 0
    names: Sequence[str] = ()
    proxy: str | None = None

    def listen(self) -> socket.socket:
        """A socket that listens there.

        Raises:
            Mistake: if the address is taken or not of this machine.
        """
        host = self.host.strip('[]')
        if not 0 <= self.port < 2**16:  # getaddrinfo would take it modulo 65536
            raise Mistake(f'--port {self.port}: give a number from 0 to 65535')
        try:
            family, _, _, _, address = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address, family=family, backlog=1024)
        except (OSError, OverflowError) as error:  # the latter of no port at all
            raise Mistake(
                f'{self.host}:{self.port} is taken, or not of this machine; name another by --host or --port'
            ) from error


def serve(inferencer: LesionInferencer, limits: Limits, title: str, address: Address) -> None:
    """Serve until Ctrl-C, or until the process is told to end.

    Raises:
        MissingLibrary: if Gradio is not installed.
        Mistake: if the address is taken or not of this machine.
    """
    allow_connections()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, so that the folder is removed
    with running(inferencer, limits, title, address) as (url, _):
        try:
            print(f'serving {title} at {url} (Ctrl-C ends it)', flush=True)
            signal.pause() if hasattr(signal, 'pause') else input()
        except KeyboardInterrupt:
            print('\nended')


@contextmanager
def running(
    inferencer: LesionInferencer, limits: Limits, title: str, address: Address = Address()
) -> Iterator[tuple[str, Path]]:
    """Inside the block the page is served.

    Args:
        inferencer: The model, loaded once.
        limits: What the page takes.
        title: Of the model, as the page names it.
        address: Where it listens.

    Yields:
        The page's address, and the folder where uploads lie until they are answered.

    Raises:
        MissingLibrary: if Gradio is not installed.
        Mistake: if the address is taken or not of this machine.
    """
    gradio = import_gradio()
    import fastapi
    import uvicorn

    from mmskin.web.door import Connection, Door
    from mmskin.web.uploads import Uploads

    with private_uploads() as folder, address.listen() as listener:
        computing = Lock()
        page = build_page(inferencer, limits, title, computing)
        app = gradio.mount_gradio_app(
            fastapi.FastAPI(openapi_url=None),
            page,
            path='/',
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
        )
        hosts = ('localhost', '127.0.0.1', '::1', address.host, *address.names)
        config = uvicorn.Config(
            Door(app, Uploads(folder, limits), hosts, len(inferencer.inputs_beside), address.proxy),
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
            host = 'localhost' if address.host == '0.0.0.0' else address.host
            yield f'http://{host}:{listener.getsockname()[1]}/', folder
        finally:
            page.close(verbose=False)
            server.should_exit = True
            thread.join(timeout=10)
            for path in folder.iterdir():  # of a question, the images that follow are refused at once
                shutil.rmtree(path, ignore_errors=True)
            computing.acquire(timeout=60)  # a process that ends inside a network is aborted


def allow_connections() -> None:
    """Raise what the process may open, as far as the system lets it: each connection and upload is a descriptor."""
    try:
        import resource
    except ImportError:  # not on Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS has a limit of its own below the hard one
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
