"""DICOM files that lie about their size cost no memory, and honest ones of every transfer syntax are read."""

import resource
import struct
import subprocess
import sys
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mmskin.cli import main
from mmskin.errors import Mistake
from mmskin.inference.image_sources import ImageSource, find_images
from mmskin.readers.images import read_image

pydicom = pytest.importorskip('pydicom', reason="DICOM needs pydicom: pip install '.[dicom]'")

from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.filebase import DicomBytesIO  # noqa: E402
from pydicom.filewriter import write_dataset  # noqa: E402

RAMP = np.arange(64 * 48, dtype=np.uint32).reshape(48, 64).astype(np.uint8)
COLOURS = np.stack([RAMP, RAMP.T.reshape(48, 64), 255 - RAMP], axis=-1)


def head(pixels=None, **tags):
    """A data set that describes 8-bit pixels, without them."""
    pixels = RAMP if pixels is None else pixels
    dataset = pydicom.Dataset()
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = 'MONOCHROME2' if pixels.ndim == 2 else 'RGB'
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def body(dataset, implicit=False, little=True):
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = implicit, little
    write_dataset(file, dataset)
    return file.getvalue()


def dicom(dataset, syntax='ExplicitVRLittleEndian', **how):
    """The bytes of a file; ``dataset`` may be its encoded body."""
    meta = pydicom.Dataset()
    meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    element = body(meta)
    inside = dataset if isinstance(dataset, bytes) else body(dataset, **how)
    return bytes(128) + b'DICM' + struct.pack('<HH2sHI', 2, 0, b'UL', 4, len(element)) + element + inside


def compressed(frame, syntax, fragments=1, **tags):
    dataset = head(**tags)
    dataset.PixelData = encapsulate([frame], fragments_per_frame=fragments)
    dataset['PixelData'].is_undefined_length = True
    return dicom(dataset, syntax)


def encode(pixels, kind, **options):
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def rle(*segments):
    starts = np.cumsum([64, *map(len, segments)])[:-1]
    return struct.pack('<16I', len(segments), *starts, *[0] * (15 - len(segments))) + b''.join(segments)


def deflate(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def literal(pixels):
    """A segment without repetitions."""
    return b''.join(b'\x3f' + run.tobytes() for run in pixels.reshape(-1, 64))


def read(data):
    return ImageSource('mole', data, file_name='mole.dcm').read()[0]


class TestHonest:
    @pytest.mark.parametrize('start', [0, 128, 132], ids=['whole', 'without preamble', 'without prefix'])
    @pytest.mark.parametrize(
        ('syntax', 'how'),
        [
            ('ExplicitVRLittleEndian', {}),
            ('ImplicitVRLittleEndian', dict(implicit=True)),
            ('ExplicitVRBigEndian', dict(little=False)),
        ],
    )
    def test_native(self, syntax, how, start):
        assert (read(dicom(head(PixelData=RAMP.tobytes()), syntax, **how)[start:])[..., 0] == RAMP).all()

    def test_bytes_in_big_endian_words(self):
        described = head()
        described.add_new('PixelData', 'OW', RAMP.reshape(-1, 2)[:, ::-1].tobytes())
        assert (read(dicom(described, 'ExplicitVRBigEndian', little=False))[..., 0] == RAMP).all()

    @pytest.mark.parametrize('how', [{}, dict(implicit=True), dict(little=False)])
    def test_a_body_alone(self, how):
        described = head(PixelData=RAMP.tobytes(), SOPClassUID='1.2.840.10008.5.1.4.1.1.77.1.4')
        assert (read(body(described, **how))[..., 0] == RAMP).all()

    def test_deflated(self):
        data = dicom(deflate(body(head(COLOURS, PixelData=COLOURS.tobytes()))), 'DeflatedExplicitVRLittleEndian')
        assert (read(data) == COLOURS).all()

    @pytest.mark.parametrize('fragments', [1, 3])
    def test_compressed(self, fragments):
        grey = read(compressed(rle(literal(RAMP)), 'RLELossless', fragments))
        assert (grey[..., 0] == RAMP).all()
        wrapped = read(compressed(encode(RAMP, 'JPEG2000'), 'JPEG2000Lossless', fragments))
        bare = read(compressed(encode(RAMP, 'JPEG2000', no_jp2=True), 'JPEG2000Lossless', fragments))
        assert (wrapped[..., 0] == RAMP).all()
        assert (bare == wrapped).all()
        smooth = np.full((48, 64), 99, np.uint8)
        jpeg = read(compressed(encode(smooth, 'JPEG', comment=b'\xff\xc0'), 'JPEGBaseline8Bit', fragments))
        assert (jpeg == 99).all()

    def test_sequences_around_the_picture(self):
        """An icon of its own, empty items, and unknown elements whose inside has no VRs."""
        icon = head(np.zeros((2, 2), np.uint8), PixelData=bytes(4))
        described = head(PixelData=RAMP.tobytes(), IconImageSequence=[icon], ReferencedImageSequence=[head()] * 3)
        for name in ('IconImageSequence', 'ReferencedImageSequence'):
            described[name].is_undefined_length = True
            for item in described[name].value:
                item.is_undefined_length_sequence_item = True
        unknown = struct.pack('<HH2sHI', 0x0009, 0x1001, b'UN', 0, 0xFFFFFFFF)
        inside = struct.pack('<HHI', 0xFFFE, 0xE000, 12) + struct.pack('<HHI', 8, 0x60, 4) + b'OT  '
        end = struct.pack('<HHI', 0xFFFE, 0xE0DD, 0)
        assert (read(dicom(unknown + inside + end + body(described)))[..., 0] == RAMP).all()


def bombs():
    """Files of little that stand for much, and what is said of each."""
    zeros = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    announced = body(head()) + struct.pack('<HH2sHI', 0x7FE0, 0x10, b'OB', 0, 500_000_000)
    deflated = (
        zeros.compress(announced) + b''.join(zeros.compress(bytes(10_000_000)) for _ in range(50)) + zeros.flush()
    )
    jpeg, j2k = encode(RAMP, 'JPEG'), encode(RAMP, 'JPEG2000', no_jp2=True)
    size = struct.pack('>HH', *RAMP.shape)
    item, end = struct.pack('<HHI', 0xFFFE, 0xE000, 0), struct.pack('<HHI', 0xFFFE, 0xE0DD, 0)
    items = struct.pack('<HH2sHI', 0x28, 0x3010, b'SQ', 0, 0xFFFFFFFF) + item * 1_000_000 + end
    deep = (struct.pack('<HH2sHI', 0x28, 0x3010, b'SQ', 0, 0xFFFFFFFF) + item[:4] + b'\xff' * 4) * 150_000
    return {
        'deflated': (dicom(deflated, 'DeflatedExplicitVRLittleEndian'), 'a deflated DICOM file of more than 416 MB; '),
        'rle': (compressed(rle(b'\x81\0' * 1_500_000), 'RLELossless'), 'more than the 3072 pixels of its header'),
        'jpeg': (
            compressed(jpeg.replace(size, struct.pack('>HH', 12_000, 12_000)), 'JPEGBaseline8Bit'),
            'pixel data say 12000 x 12000 of 1',
        ),
        'j2k': (
            compressed(j2k[:8] + struct.pack('>II', 6000, 12_000) + j2k[16:], 'JPEG2000'),
            'pixel data say 6000 x 12000 of 1',
        ),
        'items': (dicom(items + body(head(PixelData=RAMP.tobytes()))), 'more than 100000 elements'),
        'nested': (dicom(deep + body(head(PixelData=RAMP.tobytes()))), 'more than 100000 elements'),
        'native': (dicom(head(PixelData=bytes(9_000_000))), '64 x 48 pixels take 3072 bytes, but it holds 9000000'),
        'large': (
            dicom(head(Rows=9000, Columns=9000, PixelData=b'')),
            '9000 x 9000 pixels are 81.0 million; at most 50',
        ),
        'deep': (
            dicom(head(Rows=7000, Columns=7000, BitsAllocated=64, SamplesPerPixel=3, PixelData=b'')),
            'of 24 bytes; at most 50 million',
        ),
    }


MEASURE = """
import resource, sys
from pathlib import Path
from mmskin.inference.image_sources import ImageSource
import pydicom.pixels
for path in sorted(Path(sys.argv[1]).iterdir()):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        ImageSource(path.stem, path).read()
    except ValueError as error:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error, flush=True)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='memory is counted in kilobytes on Linux alone')
def test_bombs_cost_no_memory_and_are_named(tmp_path):
    found = bombs()
    for name, (data, _) in found.items():
        (tmp_path / f'{name}.dcm').write_bytes(data)
    limit = 6 << 30  # what a bomb would take is refused rather than had
    run = subprocess.run(
        [sys.executable, '-c', MEASURE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == len(found)
    for name, line in zip(sorted(found), lines, strict=True):
        kilobytes, message = line.split(' ', 1)
        assert message.startswith(f'{tmp_path / name}.dcm: ')
        assert found[name][1] in message
        assert int(kilobytes) < 60_000, f'{name} took {kilobytes} kB'


@pytest.mark.parametrize(
    ('frame', 'message'),
    [
        (
            b'\xff\xd8\xff\xfe\x00\x04\x00\x00junk\xff\xc0\x00\x0b\x08\x00\x30\x00\x40\x01\x01\x11\x00',
            'do not begin with their size',
        ),
        (
            b'\xff\xd8\xff\x01\x00\x04\xff\xc0\x00\x0b\x08\x00\x30\x00\x40\x01\x01\x11\x00',
            'do not begin with their size',
        ),
        (b'\xff\xd8\xff\xf7\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00', 'say 65535 x 65535 of 1'),
        (b'\xff\xd8\xff\xc3\x00\x0b\x08\x00\x30\x00\x40\x04\x01\x11\x00', 'say 64 x 48 of 4'),
        (b'\x00\x00\x00\x0cjP  \r\n\x87\n' + b'\x00' * 40, 'do not begin with their size'),
        (b'\0\0', 'do not begin with their size'),
    ],
    ids=['garbage', 'no length', 'JPEG-LS', 'channels', 'boxes without end', 'nothing'],
)
def test_a_codestream_has_to_state_the_size_of_the_header(frame, message):
    syntax = 'JPEGLSLossless' if b'\xff\xf7' in frame else 'JPEG2000' if b'jP' in frame else 'JPEGLossless'
    with pytest.raises(ValueError, match=f'^mole.dcm: .*{message}'):
        read(compressed(frame, syntax))


def test_a_jpeg_goes_over_its_pixels_a_hundred_times_at_most():
    frame = encode(RAMP, 'JPEG', progressive=True)
    again = frame[frame.rindex(b'\xff\xda') : -2]
    assert read(compressed(frame[:-2] + 80 * again + frame[-2:], 'JPEGBaseline8Bit')).shape == (48, 64, 3)
    with pytest.raises(ValueError, match='^mole.dcm: .*more than 100 scans'):
        read(compressed(frame[:-2] + 120 * again + frame[-2:], 'JPEGBaseline8Bit'))


@pytest.mark.parametrize('frames', [2, 10**9, -1])
def test_frames_count(frames):
    with pytest.raises(ValueError, match=f'{frames} frames in one DICOM file'):
        read(dicom(head(NumberOfFrames=frames, PixelData=RAMP.tobytes())))


def test_what_is_cut_off_is_named():
    data = dicom(head(PixelData=RAMP.tobytes()))
    with pytest.raises(ValueError, match='^mole.dcm: .*truncated: of 3072 bytes of pixel data 2972 are there'):
        read(data[:-100])
    with pytest.raises(ValueError, match='^mole.dcm: .*a DICOM file without a picture'):
        read(dicom(head()))


def test_the_limit_can_be_set():
    data = dicom(head(PixelData=RAMP.tobytes()))
    (source,) = find_images(data, max_pixels=RAMP.size)
    assert source.read()[1] == RAMP.shape
    (source,) = find_images(data, max_pixels=RAMP.size - 1)
    with pytest.raises(
        ValueError, match=r'^image_0: 64 x 48 pixels are 0\.0 million; at most 0\.003071 million pixels'
    ):
        source.read()


def test_predict_names_file_size_and_option(tmp_path, capsys):
    (tmp_path / 'a.dcm').write_bytes(dicom(head(Rows=9000, Columns=9000, PixelData=b'')))
    Image.new('1', (13_000, 14_000)).save(tmp_path / 'b.png')
    arguments = ['predict', str(tmp_path), '--out-dir', str(tmp_path / 'out'), '--device', 'cpu']
    assert main(arguments) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [line for line in errors if line.startswith('skipped')] == [
        f'skipped: {tmp_path}/{name}; at most 50 million pixels are accepted '
        '(set --max-pixels, or max_pixels of LoadImage)'
        for name in ('a.dcm: 9000 x 9000 pixels are 81.0 million', 'b.png: 13000 x 14000 pixels are 182.0 million')
    ]
    assert main([*arguments, '--max-pixels', '0']) == 2


@pytest.mark.parametrize(
    ('spacing', 'expected'),
    [
        ([0.02, 0.02], 0.02),
        ([0.02, 0.0201], 0.02005),
        ([0.02, 0.03], None),
        ([0, 0], None),
        ([1e300, 1e300], None),
        (None, None),
    ],
)
def test_the_scale_is_what_the_file_says(spacing, expected, tmp_path):
    tags = {} if spacing is None else {'PixelSpacing': spacing}
    data = dicom(head(COLOURS, **tags, PixelData=COLOURS.tobytes()))
    path = tmp_path / 'skin.dcm'
    path.write_bytes(data)
    for content in (data, path):
        scale = ImageSource('skin', content).scale()
        assert scale == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ('tags', 'is_square'),
    [
        (dict(PixelAspectRatio=['1', '1'], PixelSpacing=[0.02, 0.02]), True),
        (dict(PixelAspectRatio=['2', '1'], PixelSpacing=[0.02, 0.02]), False),
        (dict(PixelAspectRatio=['2', '1']), False),
        (dict(PixelSpacing=[0.02, 0.03]), False),
    ],
)
def test_pixels_that_are_not_square_have_no_scale(tags, is_square):
    data = dicom(head(COLOURS, **tags, PixelData=COLOURS.tobytes()))
    assert ImageSource('skin', data).scale() == (0.02 if is_square else None)
    given = ImageSource('skin', data, mm_per_pixel=0.5)
    if is_square:
        assert given.scale() == 0.5
        return
    with pytest.raises(Mistake, match='^skin: its pixels are not square'):
        given.scale()


@pytest.mark.parametrize(
    ('tags', 'message'),
    [
        (dict(RescaleSlope=0, RescaleIntercept=0), 'leaves no grey values'),
        (dict(BitsStored=4, HighBit=7), '4 bits a pixel below bit 7'),
        (
            dict(pixels=COLOURS, PixelData=COLOURS.tobytes(), PixelRepresentation=1),
            'signed values of RGB, which DICOM defines as unsigned',
        ),
        (
            dict(pixels=COLOURS, PixelData=COLOURS.tobytes(), PhotometricInterpretation='YBR_RCT'),
            'YBR_RCT is of JPEG 2000',
        ),
    ],
)
def test_what_would_be_read_as_another_picture_is_refused(tags, message):
    with pytest.raises(Mistake, match=message):
        read(dicom(head(**{'PixelData': RAMP.tobytes(), **tags})))


def test_what_a_decoder_says_in_several_lines_becomes_one(tmp_path):
    jpeg = BytesIO()
    Image.fromarray(RAMP).save(jpeg, 'JPEG')
    dataset = head()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.SecondaryCaptureImageStorage, '1.2.3'
    dataset.PixelData = encapsulate([jpeg.getvalue()[:400]])
    dataset['PixelData'].is_undefined_length = True
    dataset.save_as(tmp_path / 'cut.dcm', enforce_file_format=True)
    with pytest.raises(Mistake, match=r'cut\.dcm: not an image that can be read') as refusal:
        read_image(tmp_path / 'cut.dcm')
    assert '\n' not in str(refusal.value)
