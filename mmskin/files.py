"""Files that are there whole or not at all."""

import os
from pathlib import Path

__all__ = ['write_text', 'write_whole']


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as ``write_whole`` does."""
    write_whole(path, text.encode())


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file, making its folder if it is not there.

    It appears under its name when it is complete: a process that is killed leaves the earlier file, and of two that
    write at once one wins.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}')
    unfinished.write_bytes(content)
    unfinished.replace(path)
