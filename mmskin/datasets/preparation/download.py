"""Downloading large files over connections that break off, stall and lie."""

import errno
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from mmskin.errors import Mistake
from mmskin.files import read_note, write_note

BLOCK = 1 << 20
RETRIED = (408, 425, 429, 500, 502, 503, 504)  # the statuses that may be another a moment later
LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)  # no fault of the network
T = TypeVar('T')
Report = Callable[[int, int | None], None]  # is given the bytes that are here, and all if they are known


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        timeout: seconds without a byte after which a connection counts as stalled.
        attempts: how often in a row one address may fail without a byte gained.
        pause: seconds before the second attempt; doubles with each, up to a minute.
    """

    timeout: float = 30.0
    attempts: int = 8
    pause: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.timeout <= 86_400 and self.attempts >= 1):
            raise Mistake(
                f'--timeout {self.timeout:g} --attempts {self.attempts}: give seconds up to a day, and 1 or more'
            )


@dataclass
class Origin:
    """Which version of which file a partial download is of.

    Attributes:
        url: the address.
        etag: the server's name of the version, '' if it gives none.
        last_modified: the version's date as the server writes it, or ''.
        size: bytes of the whole, None if the server does not say.
        resumed: whether it was put together from several answers.
    """

    url: str
    etag: str = ''
    last_modified: str = ''
    size: int | None = None
    resumed: bool = False

    def differs(self, other: 'Origin') -> bool:
        """Whether the two are known to be different versions."""
        fields = ('etag', 'last_modified', 'size')
        pairs = [(getattr(self, name), getattr(other, name)) for name in fields]
        return any(mine and theirs and mine != theirs for mine, theirs in pairs)


class PartialFile:
    """What is here of a download: ``NAME.part`` in the file's folder, and ``NAME.part.json`` that says of what."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f'{path.name}.part')
        self.notes = path.with_name(f'{path.name}.part.json')

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self) -> Origin | None:
        """What it is a part of; None if that is not known, or it is a link, so that it is of no use."""
        try:
            if self.path.is_symlink() or (self.path.exists() and self.path.stat().st_nlink > 1):
                return None
            return Origin(**read_note(self.notes))
        except (FileNotFoundError, Mistake):
            return None

    def begin(self, origin: Origin) -> None:
        """Note the origin of the bytes that come next."""
        write_note(self.notes, asdict(origin))

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


def download(
    urls: Sequence[str],
    path: Path,
    verify: Callable[[Path], T],
    patience: Patience | None = None,
    report: Report = lambda done, total: None,
    advice: str = '',
    most: int | None = None,
) -> tuple[str, T]:
    """Download a file from the first address that gives it, going on where an earlier call stopped.

    Args:
        urls: addresses of the same file.
        path: where it goes once it is complete and verified.
        verify: takes the complete file and raises ValueError if its content is wrong.
        patience: see ``Patience``.
        report: see ``Report``.
        advice: what else to do if it fails, for the error.
        most: bytes that it may have; None takes any number.

    Returns:
        the address that gave it, and what ``verify`` returned.

    Raises:
        Mistake: if none of them gives it; what has come stays, and the next call continues from there.
        OSError: if the disk does not take it.
    """
    part, patience, failures = PartialFile(path), patience or Patience(), []
    origin = part.origin()
    for url in sorted(urls, key=lambda url: origin is None or url != origin.url):  # the one that part is from first
        try:
            result = complete(url, part, verify, patience, report, most)
        except (HTTPException, OSError, ValueError) as error:
            if is_local(error):
                raise
            failures.append(f'{url}: {error}')
        else:
            part.path.replace(path)
            part.clear()
            return url, result
    raise Mistake(
        f'{path.name} could not be downloaded.\n  ' + '\n  '.join(failures) + f'\nRun it again to continue{advice}.'
    )


def is_local(error: Exception) -> bool:
    """Whether it is the disk that fails."""
    return isinstance(error, OSError) and error.errno in LOCAL


def complete(
    url: str, part: PartialFile, verify: Callable[[Path], T], patience: Patience, report: Report, most: int | None
) -> T:
    """Download from one address and verify; once more from the start if what was put together from parts is wrong."""
    is_second = False
    while True:
        persist(url, part, patience, report, most)
        try:
            return verify(part.path)
        except ValueError:
            origin = part.origin()
            part.clear()
            if is_second or not (origin and origin.resumed):
                raise
        is_second = True


def persist(url: str, part: PartialFile, patience: Patience, report: Report, most: int | None) -> None:
    """Ask again and again until the part is the whole; a failure with new bytes gained starts the count again."""
    failures, farthest = 0, part.size
    while True:
        try:
            return receive(url, part, patience.timeout, report, most)
        except (HTTPException, OSError) as error:
            permanent = isinstance(error, HTTPError) and error.code not in RETRIED
            failures = 1 if part.size > farthest else failures + 1
            if permanent or is_local(error) or failures >= patience.attempts:
                raise
        farthest = max(farthest, part.size)
        time.sleep(min(60, patience.pause * 2 ** (failures - 1)))


def receive(url: str, part: PartialFile, timeout: float, report: Report, most: int | None) -> None:
    """One request for what the part lacks.

    Raises:
        OSError: (HTTPError, URLError, TimeoutError and ConnectionError are such) if it does not become the whole.
        HTTPException: likewise.
        Mistake: if it is larger than ``most``; nothing of it stays.
    """
    origin = part.origin()
    if origin is None or (origin.size is not None and part.size > origin.size):
        part.clear()
        origin = None
    if origin and part.size and part.size == origin.size:
        return
    headers = {}
    if origin and part.size:
        headers['Range'] = f'bytes={part.size}-'
        is_strong = origin.etag and not origin.etag.startswith('W/')  # as If-Range wants an ETag
        if validator := origin.etag if is_strong else origin.last_modified:
            headers['If-Range'] = validator
    try:
        response = urlopen(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        if error.code != 416:
            raise
        part.clear()
        raise ConnectionError('the server has no such range; from the start') from error
    with response:
        answer, content_range = response.headers, response.headers.get('Content-Range', '')
        of_range, first = re.search(r'/(\d+|\*)\s*$', content_range), re.match(r'bytes (\d+)-', content_range)
        size = of_range[1].strip('*') if of_range else answer.get('Content-Length')
        answered = Origin(url, answer.get('ETag', ''), answer.get('Last-Modified', ''), int(size) if size else None)
        if response.status != 206:  # the whole comes
            part.clear()
        elif origin is None or origin.differs(answered) or not first or int(first[1]) != part.size:
            part.clear()
            raise ConnectionError('the server sends the rest of another version; from the start')
        else:
            answered.resumed = True
        part.begin(answered)
        with part.path.open('ab') as file:
            while block := response.read1(BLOCK):
                if most is not None and max(file.tell() + len(block), answered.size or 0) > most:
                    part.clear()
                    raise Mistake(f'it is larger than {most} bytes')
                file.write(block)
                report(file.tell(), answered.size)
    if answered.size is not None and part.size != answered.size:
        raise ConnectionError(f'the connection broke off after {part.size} of {answered.size} bytes')


def remote_size(urls: Sequence[str], timeout: float) -> int | None:
    """The bytes of a file by the first address that says so; None if none does."""
    for url in urls:
        try:
            with urlopen(Request(url, method='HEAD'), timeout=timeout) as response:
                if size := response.headers.get('Content-Length'):
                    return int(size)
        except (OSError, HTTPException, ValueError):  # the last of an address that is none
            continue
    return None
