"""Where uploads lie until they are answered, each in a folder of its own with a name that nobody can guess."""

import asyncio
import secrets
import shutil
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from starlette.datastructures import Headers, UploadFile
from starlette.types import Receive, Scope

from mmskin.web.door import Refusal, body_of, form_of
from mmskin.web.limits import MEGA, Limits
from mmskin.web.page import remove

CHUNK = 1 << 20


@dataclass
class Kept:
    """An upload on the disk: its bytes, the session that asked about it, and when it was last heard of."""

    size: int
    session: str = ''
    heard: float = field(default_factory=time.monotonic)


class Uploads:
    """Takes uploads within the limits, and removes those that nobody waits for.

    Whoever answers an upload removes it.

    Args:
        folder: Where they lie; nothing else may be in it.
        limits: How large a file, a request and all uploads together may be, and how slow.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder = folder
        self.limits = limits
        self.arriving = 0  # bytes of requests that are not complete
        self.kept: dict[Path, Kept] = {}
        self.watched: Counter[str] = Counter()
        self.sessions: dict[str, float] = {}  # when each that asked was last heard of
        self.splitting = asyncio.Lock()

    async def store(self, scope: Scope, receive: Receive) -> list[Path]:
        """The files of a form. What arrives has no name on the disk, and is gone with its request."""
        self.kept = {path: kept for path, kept in self.kept.items() if path.exists()}  # the rest is answered
        stored = sum(kept.size for kept in self.kept.values())
        received = 0
        try:
            with TemporaryFile(dir=self.folder) as file:
                full = False
                most = self.limits.images * self.limits.file_bytes + MEGA  # with what the form adds
                async for part in body_of(scope, receive, most, self.limits.seconds):
                    if full:  # a connection that is closed before all is read is reset, and the reason is lost
                        continue
                    received += len(part)
                    self.arriving += len(part)
                    full = stored + self.arriving > self.limits.total_bytes
                    file.write(b'' if full else part)
                if full:
                    raise Refusal(507, 'too many images are waiting here for their answers; try again in a minute')
                async with self.splitting:  # one after the other: each file of a form has a descriptor
                    return await self.split(file, Headers(scope=scope))
        except OSError as error:
            raise Refusal(507, 'the disk of this page is full; try again in a minute') from error
        finally:
            self.arriving -= received

    async def split(self, form: IO[bytes], headers: Headers) -> list[Path]:
        """Lay each file of a complete form into a folder of its own."""

        async def parts() -> AsyncGenerator[bytes, None]:
            form.seek(0)
            while part := form.read(CHUNK):
                yield part

        fields = await form_of(headers, parts(), 10 * self.limits.images)
        files = [file for file in fields.getlist('files') if isinstance(file, UploadFile)]
        paths = []
        try:
            for file in files:
                if (file.size or 0) > self.limits.file_bytes:
                    raise Refusal(
                        413, f'{file.filename}: above the maximum allowed size of {self.limits.megabytes:g} MB'
                    )
            for file in files:
                path = self.folder / secrets.token_hex(16) / 'image'
                path.parent.mkdir()
                paths.append(path)
                with path.open('wb') as target:
                    await asyncio.to_thread(shutil.copyfileobj, file.file, target)
                self.kept[path] = Kept(file.size or 0)
        except BaseException:
            self.discard(paths)
            raise
        finally:
            await fields.close()
        return paths

    def claim(self, paths: Iterable[str], session: str) -> None:
        """Note which session waits for uploads."""
        claimed = [self.kept.get(Path(path)) for path in paths]
        if None in claimed:
            raise Refusal(410, 'the images are gone; drop them once more')
        self.sessions[session] = time.monotonic()
        for kept in filter(None, claimed):
            kept.session, kept.heard = session, time.monotonic()

    @contextmanager
    def awaited(self, session: str) -> Iterator[None]:
        """Inside the block somebody waits for the answers of a session, and its uploads stay."""
        self.watched[session] += 1
        try:
            yield
        finally:
            self.watched[session] -= 1
            if not self.watched[session]:
                del self.watched[session]
            if session in self.sessions:
                self.sessions[session] = time.monotonic()
            for kept in self.kept.values():
                if kept.session == session:
                    kept.heard = time.monotonic()

    async def sweep(self, forget: Callable[[str], Awaitable[None]]) -> None:
        """Remove what nobody waits for, for ever.

        Args:
            forget: Drops the answers that a session has not fetched.
        """
        while True:
            await asyncio.sleep(self.limits.life / 9)
            late = time.monotonic() - self.limits.life
            self.discard(
                [path for path, kept in self.kept.items() if kept.heard < late and not self.watched[kept.session]]
            )
            for session in [name for name, heard in self.sessions.items() if heard < late and not self.watched[name]]:
                del self.sessions[session]
                await forget(session)

    def discard(self, paths: Iterable[Path]) -> None:
        """Remove uploads."""
        for path in paths:
            self.kept.pop(path, None)
            remove(path)
