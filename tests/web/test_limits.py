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


def test_what_is_within_the_limits_is_read(upload, photo):
    name, path = upload('mole.png', photo)
    source = Limits().read(path, name)
    assert (source.image_id, source.content) == ('mole', photo)
    Limits(megabytes=len(photo) / 1e6, pixels=200 * 160).read(path, name)


@pytest.mark.parametrize(
    ('limits', 'content', 'message'),
    [
        (Limits(), b'', 'the file is empty'),
        (Limits(), b'no image', 'not an image that can be read'),
        (Limits(megabytes=1), bytes(2_500_000), r'2\.5 MB; this page takes 1 MB at most'),
        (Limits(pixels=2_000_000), huge_png(2000, 1001), r'2000 x 1001 pixels are 2\.0 million; .* 2 million at most'),
        (Limits(), huge_png(60000, 60000), 'far too many pixels'),
    ],
    ids=['empty', 'no image', 'megabytes', 'pixels', 'bomb'],
)
def test_a_refusal_names_the_file_and_the_limit(upload, limits, content, message):
    name, path = upload('x.png', content)
    with pytest.raises(ValueError, match=f'^x.png: .*{message}'):
        limits.read(path, name)


def test_an_eps_that_is_named_png_is_refused(upload):
    file = BytesIO()
    Image.new('RGB', (8, 8)).save(file, 'EPS')
    name, path = upload('evil.png', file.getvalue())
    with pytest.raises(ValueError, match='^evil.png: not an image that can be read$'):
        Limits().read(path, name)


@pytest.fixture
def dicom():
    """The bytes of a head, 40 x 30 pixels, in a transfer syntax of pydicom's."""
    pydicom = pytest.importorskip('pydicom')

    def dicom(syntax):
        dataset = pydicom.Dataset()
        dataset.Rows, dataset.Columns = 30, 40
        dataset.preamble = bytes(128)
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        file = BytesIO()
        dataset.save_as(file, enforce_file_format=False)
        return file.getvalue()

    return dicom


def test_a_deflated_dicom_is_refused_before_it_is_inflated(upload, dicom, monkeypatch):
    name, path = upload('skin.dcm', dicom('DeflatedExplicitVRLittleEndian'))
    monkeypatch.setattr('zlib.decompress', lambda *_, **__: pytest.fail('it was inflated'))
    with pytest.raises(ValueError, match='skin.dcm: .*deflated DICOM; save it in another transfer syntax'):
        Limits().read(path, name)


def test_dicom_is_measured_from_its_head(upload, dicom):
    name, path = upload('skin.dcm', dicom('ExplicitVRLittleEndian'))
    assert Limits(pixels=1200).read(path, name).image_id == 'skin'
    with pytest.raises(ValueError, match='40 x 30'):
        Limits(pixels=1199).read(path, name)


def test_limits_that_take_nothing_are_an_error():
    with pytest.raises(ValueError, match='above 0'):
        Limits(megabytes=0)
