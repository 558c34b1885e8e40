"""Files that are there whole or not at all, and what is in them."""

import json
import os
from pathlib import Path
from typing import Any

__all__ = ['read_json', 'write_text', 'write_whole']


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


def read_json(path: str | Path) -> Any:
    """What a file of JSON holds.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path}: damaged, or no JSON ({error}); make it again by what wrote it') from error
