"""How large an image may be: compared with what its file states, before any pixel is decoded."""

from mmskin.errors import Mistake

__all__ = ['MAX_PIXELS', 'TooLargeError', 'check_size', 'most_bytes']

MAX_PIXELS = 50_000_000  # of an image, unless the user says otherwise


class TooLargeError(Mistake):
    """An image that would take more memory than the user allows; nothing of it was decoded."""

    def __init__(self, what: str, max_pixels: int) -> None:
        super().__init__(f'{what}; at most {max_pixels / 1e6:g} million pixels are taken (--max-pixels says how many)')


def check_size(shape: tuple[int, int], max_pixels: int) -> None:
    """Compare an image's (height, width), which it states, with the limit.

    Raises:
        TooLargeError: if it has more than ``max_pixels``.
    """
    height, width = shape
    if height * width > max_pixels:
        raise TooLargeError(f'{width} x {height} pixels are {height * width / 1e6:.1f} million', max_pixels)


def most_bytes(max_pixels: int) -> int:
    """The most that an image's file takes: four channels of 16 bits, not compressed, and what describes them."""
    return 8 * max_pixels + 16_000_000
