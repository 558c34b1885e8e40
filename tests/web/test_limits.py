"""What the page refuses, and in which words."""

import zlib
from io import BytesIO

import pytest
from PIL import Image

from mmskin.web.limits import Limits


def huge_png(width, height):
    """The head of a PNG of any size; its pixels are missing."""
    parts = (b'IHDR' + width.to_bytes(4, 'big') + height.to_bytes(4, 'big') + bytes([8, 2, 0, 0, 0]), b'IDAT')
    chunks = [(len(part) - 4).to_bytes(4, 'big') + part + zlib.crc32(part).to_bytes(4, 'big') for part in parts]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


def test_what_is_within_the_limits_is_read(photo):
    source = Limits().source(photo, 'mole.png')
    assert (source.image_id, source.content) == ('mole', photo)
    Limits(megabytes=len(photo) / 1e6, pixels=200 * 160).source(photo, 'mole.png').read()


@pytest.mark.parametrize(
    ('limits', 'content', 'message'),
    [
        (Limits(), b'', 'the file is empty'),
        (Limits(), b'no image', 'not an image that can be read'),
        (Limits(megabytes=1), bytes(2_500_000), r'2\.5 MB; at most 1 MB are accepted'),
        (Limits(pixels=2_000_000), huge_png(2000, 1001), r'2000 x 1001 pixels are 2\.0 million; at most 2 million'),
        (Limits(), huge_png(60000, 60000), '60000 x 60000 pixels are 3600.0 million'),
    ],
    ids=['empty', 'no image', 'megabytes', 'pixels', 'bomb'],
)
def test_a_refusal_names_the_file_and_the_limit(limits, content, message):
    with pytest.raises(ValueError, match=f'^x.png: .*{message}'):
        limits.source(content, 'x.png').read()


def test_an_eps_that_is_named_png_is_refused():
    file = BytesIO()
    Image.new('RGB', (8, 8)).save(file, 'EPS')
    with pytest.raises(ValueError, match='^evil.png: not an image that can be read; convert it to PNG$'):
        Limits().source(file.getvalue(), 'evil.png').read()


def test_limits_that_take_nothing_are_an_error():
    with pytest.raises(ValueError, match='above 0'):
        Limits(megabytes=0)
