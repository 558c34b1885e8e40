"""Serving the page: to this machine alone by default, with nothing kept, and nothing fetched from elsewhere."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING

from mmskin.inference.inferencer import LesionInferencer
from mmskin.web.limits import Limits
from mmskin.web.page import build_page, import_gradio, part

if TYPE_CHECKING:
    from mmskin.web.door import Address

UPLOADS = 'GRADIO_TEMP_DIR'


@contextmanager
def running(
    inferencer: LesionInferencer, limits: Limits, title: str, address: 'Address | None' = None
) -> Iterator[tuple[str, Path]]:
    """Inside the block the page is served.

    Args:
        inferencer: The model, loaded once.
        limits: What the page takes.
        title: Of the model, as the page names it.
        address: Where it listens; this machine alone, at any port, by default.

    Yields:
        The page's address, and the folder where uploads lie until they are answered.

    Raises:
        MissingLibrary: if Gradio is not installed.
        Mistake: if the address is taken or not of this machine.
    """
    gradio = import_gradio()
    import fastapi

    from mmskin.web.door import Address, listening
    from mmskin.web.page_door import PageDoor
    from mmskin.web.uploads import Uploads

    address = address or Address()
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
            max_file_size=limits.file_bytes,
            theme=gradio.themes.Default(
                primary_hue='teal', font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace']
            ),
            css=part('page.css'),
        )
        door = PageDoor(app, address, Uploads(folder, limits), len(inferencer.inputs_beside))
        try:
            with listening(door, listener):
                try:
                    yield address.url(listener), folder
                finally:
                    page.close(verbose=False)
        finally:
            for path in folder.iterdir():  # of a question, the images that follow are refused at once
                shutil.rmtree(path, ignore_errors=True)
            computing.acquire(timeout=60)  # a process that ends inside a network is aborted


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
