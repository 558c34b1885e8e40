"""Every kind of image becomes upright RGB, with values worked out by hand."""

import struct
import zlib
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmskin.datasets.transforms.loading import LoadImage
from mmskin.errors import Mistake
from mmskin.inference.image_sources import find_images
from mmskin.readers.images import read_image
from mmskin.readers.masks import read_mask

RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10  # (4, 6)
RGB = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=2)


def encode(image, kind, **options):
    """The bytes of a PIL image or an array in a format of Pillow's."""
    file = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'TIFF', 'WEBP'])
def test_colours_of_lossless_files(kind):
    options = {'lossless': True, 'exact': True} if kind == 'WEBP' else {}
    image, shape = read_image(encode(RGB, kind, **options))
    assert shape == (4, 6)
    assert (image == RGB).all()


def test_a_jpeg_with_a_preview_as_phones_write_it():
    smooth = cv2.resize(RGB, (96, 64), interpolation=cv2.INTER_CUBIC)
    preview = Image.fromarray(smooth[::2, ::2])
    data = encode(smooth, 'MPO', save_all=True, append_images=[preview])
    assert Image.open(BytesIO(data)).format == 'MPO'
    assert read_image(data)[1] == (64, 96)
    assert read_image(data[:-20])[1] == (64, 96)  # the preview's end


def with_size(data, height=None, width=None):
    """A JPEG whose head states another size."""
    at = 2
    while data[at + 1] not in (0xC0, 0xC2):
        at += 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
    stated = struct.unpack_from('>HH', data, at + 5)
    return data[: at + 5] + struct.pack('>HH', height or stated[0], width or stated[1]) + data[at + 9 :]


JPEGS = {
    'baseline': {},
    'progressive': {'progressive': True},
    'all colours': {'subsampling': 0},
    'restarts': {'restart_marker_rows': 1},
    'more restarts': {'restart_marker_blocks': 3},
    'RGB': {'keep_rgb': True},
    'grey': {'mode': 'L'},
    'CMYK': {'mode': 'CMYK'},
}


@pytest.mark.parametrize('options', JPEGS.values(), ids=JPEGS)
def test_a_jpeg_whose_head_claims_more_than_its_data_is_refused_in_training_and_prediction(options, tmp_path):
    options = dict(options)
    picture = Image.fromarray(cv2.resize(RGB, (96, 64), interpolation=cv2.INTER_CUBIC))
    whole = encode(picture.convert(options.pop('mode', 'RGB')), 'JPEG', quality=92, **options)
    assert read_image(whole)[1] == (64, 96)
    for size in (dict(height=80), dict(height=200), dict(width=128)):
        (tmp_path / 'a.jpg').write_bytes(with_size(whole, **size))
        for least in (None, 8):
            with pytest.raises(Mistake, match='a.jpg: damaged: its data end before the pixels that'):
                read_image(tmp_path / 'a.jpg', least)
        with pytest.raises(Mistake, match='its data end before'):
            LoadImage(8).transform(dict(img_path=str(tmp_path / 'a.jpg')))


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16'])
def test_a_png_whose_head_claims_more_than_its_data_is_refused_as_image_and_as_mask(mode, tmp_path):
    levels = 255 * (RAMP > 100).astype(np.uint8)
    whole = encode(levels.astype(np.uint16) * 257 if mode == 'I;16' else Image.fromarray(levels).convert(mode), 'PNG')
    assert read_image(whole)[1] == read_mask('a.png', whole).shape == (4, 6)
    head = whole[12:20] + struct.pack('>I', 5) + whole[24:29]  # one row more, and the checksum right
    (tmp_path / 'a.png').write_bytes(whole[:12] + head + struct.pack('>I', zlib.crc32(head)) + whole[33:])
    for read in (read_image, read_mask):
        with pytest.raises(Mistake, match=r'a\.png: not an? .* that can be read'):
            read(tmp_path / 'a.png')


@pytest.mark.parametrize('options', JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize('level', [127, 128])
def test_a_jpeg_that_ends_in_the_grey_of_missing_data_is_read(options, level):
    options = dict(options)
    pixels = np.full((40, 64, 3), level, np.uint8)
    pixels[:16] = cv2.resize(RGB, (64, 16))
    data = encode(Image.fromarray(pixels).convert(options.pop('mode', 'RGB')), 'JPEG', quality=92, **options)
    for least in (None, 8):
        assert read_image(data, least)[1] == (40, 64)


@pytest.mark.parametrize('kind', ['PNG', 'TIFF'])
def test_grey_of_8_and_16_bits(kind):
    for levels in (RAMP, RAMP.astype(np.uint16), RAMP.astype(np.uint16) * 257 + 100):  # 257 is one level of 255
        image, _ = read_image(encode(levels, kind))
        assert (image == RAMP[..., None]).all()


@pytest.mark.parametrize('kind', ['.png', '.tiff'])
def test_colours_of_16_bits(kind):
    for deep in (RGB.astype(np.uint16) * 257 - np.uint16(100) * (RGB > 0), RGB.astype(np.uint16)):
        assert (read_image(cv2.imencode(kind, deep[..., ::-1])[1].tobytes())[0] == RGB).all()


def test_transparency_of_16_bits():
    """255 + (colour - 255) * opacity / 255, worked out by hand."""
    deep = np.array([[[100, 0, 200, 0], [100, 0, 200, 255], [100, 0, 200, 51]]], np.uint16) * 257
    expected = [[255, 255, 255], [100, 0, 200], [224, 204, 244]]
    assert read_image(cv2.imencode('.png', deep[..., [2, 1, 0, 3]])[1].tobytes())[0][0].tolist() == expected
    assert read_image(deep)[0][0].tolist() == expected


def test_one_level_of_16_bits_may_be_transparent():
    deep = RAMP.astype(np.uint16) * 257
    image = read_image(encode(deep, 'PNG', transparency=int(deep[1, 1])))[0]
    assert image[1, 1].tolist() == [255] * 3
    image[1, 1] = RAMP[1, 1]
    assert (image == RAMP[..., None]).all()


def tiff(pixels, **tags):
    """The bytes of a TIFF whose tags say what tifffile is told."""
    file = BytesIO()
    tifffile.imwrite(file, pixels, **tags)
    return file.getvalue()


TWELVE = np.array([[0, 1000, 4095]], np.uint16)
LOST = {
    '12 bits in 16': (lambda: encode(TWELVE, 'PNG'), 'its brightest value is 4095 of 65535'),
    'colours of 12 bits in 16': (lambda: cv2.imencode('.png', np.dstack([TWELVE] * 3))[1].tobytes(), '4095 of 65535'),
    'an array of 12 bits': (lambda: TWELVE, '4095 of 65535'),
    'signed 12 bits': (lambda: tiff(TWELVE.astype(np.int16)), '4095 of 32767'),
    'signed 8 bits': (lambda: tiff((RAMP.astype(int) - 128).astype(np.int8)), 'type int8 from -128 to 102'),
    'a fourth band': (lambda: tiff(np.dstack([RGB, RAMP]), photometric='rgb', extrasamples=['unspecified']), '4 chan'),
    'a fourth that nothing tells of': (lambda: cv2.imencode('.tif', np.dstack([RGB, RAMP]))[1].tobytes(), '4 channels'),
    'five bands': (
        lambda: tiff(np.dstack([RGB, RGB[..., :2]]), photometric='rgb', planarconfig='contig'),
        '5 channels',
    ),
    'bands apart': (
        lambda: tiff(np.stack([RAMP] * 4), planarconfig='separate', photometric='minisblack'),
        'unsupported kind of TIFF',
    ),
    'pages': (lambda: tiff(np.stack([RAMP] * 4), photometric='minisblack'), 'several pages'),
    'frames': (lambda: encode(RGB, 'WEBP', save_all=True, append_images=[Image.fromarray(255 - RGB)]), 'or frames'),
    'PNG frames': (lambda: encode(RGB, 'PNG', save_all=True, append_images=[Image.fromarray(255 - RGB)]), 'or frames'),
    'colours as fractions': (
        lambda: tiff(RGB.astype(np.float32) / 255, photometric='rgb'),
        'an unsupported kind of TIFF',
    ),
    'fractions above 1': (lambda: tiff(RAMP.astype(np.float32)), 'type float32 from 0.0 to 230.0'),
    '32 bits': (lambda: tiff(RGB.astype(np.uint32), photometric='rgb'), 'an unsupported kind of TIFF'),
    'CMYK of 16 bits': (lambda: tiff(np.dstack([RGB, RAMP]).astype(np.uint16), photometric='separated'), 'of CMYK'),
    'planes of 16 bits': (
        lambda: tiff(np.moveaxis(RGB, 2, 0).astype(np.uint16) * 257, photometric='rgb', planarconfig='separate'),
        'pixel by pixel',
    ),
    'white at 0': (lambda: tiff(RAMP.astype(np.uint16) * 257, photometric='miniswhite'), 'white is 0'),
    'cut by Pillow': (
        lambda: Image.open(BytesIO(cv2.imencode('.png', RGB.astype(np.uint16) * 257)[1].tobytes())),
        'Pillow cuts its 16 bits',
    ),
}


@pytest.mark.parametrize(('make', 'message'), LOST.values(), ids=LOST.keys())
def test_what_would_be_lost_is_refused(make, message):
    with pytest.raises(Mistake, match=f'lesion.*{message}'):
        read_image(make(), name='lesion')


KEPT = {
    'planes': lambda: tiff(np.moveaxis(RGB, 2, 0), photometric='rgb', planarconfig='separate'),
    'big-endian': lambda: tiff(RGB.astype(np.uint16) * 257, photometric='rgb', byteorder='>'),
    'alpha': lambda: tiff(
        np.dstack([RGB, np.full_like(RAMP, 255)]).astype(np.uint16) * 257,
        photometric='rgb',
        extrasamples=['unassalpha'],
    ),
    'white at 0': lambda: tiff(255 - RAMP, photometric='miniswhite'),
    'signed': lambda: tiff((np.arange(24).reshape(4, 6) * 10 * 32767 / 255).round().astype(np.int16)),
    'fractions': lambda: tiff(RAMP.astype(np.float32) / 255),
    '32 bits of grey': lambda: tiff(RAMP.astype(np.uint32) * 257),
}


@pytest.mark.parametrize('name', KEPT)
def test_kinds_of_tiff(name):
    is_grey = name in ('white at 0', 'signed', 'fractions', '32 bits of grey')
    assert (read_image(KEPT[name]())[0] == (RAMP[..., None] if is_grey else RGB)).all()


def test_transparency_lies_over_white():
    alpha = np.zeros((1, 2, 4), np.uint8)
    alpha[0, 1] = (100, 0, 200, 128)
    image, _ = read_image(encode(alpha, 'PNG'))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[0, 1].tolist() == pytest.approx([177, 127, 227], abs=1)  # 255 + (colour - 255) * 128 / 255
    assert (read_image(alpha)[0] == image).all()


def test_palette_with_and_without_transparency():
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), 'P')
    palette.putpalette([200, 10, 20, 30, 40, 50])
    assert read_image(encode(palette, 'PNG'))[0].tolist() == [[[200, 10, 20], [30, 40, 50]]]
    assert read_image(encode(palette, 'PNG', transparency=0))[0].tolist() == [[[255] * 3, [30, 40, 50]]]


def test_cmyk_and_one_bit():
    assert read_image(encode(Image.new('CMYK', (8, 8), (0, 255, 255, 0)), 'TIFF'))[0][0, 0].tolist() == [255, 0, 0]
    assert read_image(encode(Image.fromarray(RAMP > 100), 'PNG'))[0][..., 0].tolist() == ((RAMP > 100) * 255).tolist()


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'WEBP'])
@pytest.mark.parametrize(
    ('value', 'turn'), [(1, lambda a: a), (3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)]
)
def test_exif_orientation(kind, value, turn):
    options = {'lossless': True, 'exact': True} if kind == 'WEBP' else {}
    image, shape = read_image(encode(RGB, kind, exif=orientation(value), **options))
    assert (image == turn(RGB)).all()
    assert shape == turn(RGB).shape[:2]


@pytest.mark.parametrize('pixels', [RGB, np.dstack([RGB, np.full_like(RAMP, 255)])], ids=['RGB', 'RGBA'])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
def test_an_orientation_in_xmp_alone_is_not_applied(kind, pixels):
    """OpenCV, and so the training, doesn't know it."""
    if kind == 'JPEG':
        pixels = pixels[..., :3]
    tag = '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    info = PngInfo()
    info.add_itxt('XML:com.adobe.xmp', tag)
    image, shape = read_image(encode(pixels, kind, **({'pnginfo': info} if kind == 'PNG' else {'xmp': tag.encode()})))
    assert image.shape[:2] == shape == (4, 6)


def test_a_pil_image_from_a_phone_is_turned():
    phone = Image.open(BytesIO(encode(RGB, 'PNG', exif=orientation(6))))
    assert (read_image(phone)[0] == np.rot90(RGB, -1)).all()


@pytest.mark.parametrize('value', [1, 6])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_a_large_file_is_read_as_in_training(kind, value, tmp_path):
    smooth = cv2.resize(RGB, (640, 400), interpolation=cv2.INTER_CUBIC)
    path = tmp_path / f'large.{kind.lower()}'
    path.write_bytes(encode(smooth, kind, exif=orientation(value)))
    expected = LoadImage(90).transform({'img_path': str(path)})
    image, shape = read_image(path, 90)
    assert shape == expected['ori_shape'] == ((400, 640) if value == 1 else (640, 400))
    assert min(image.shape[:2]) == 100
    assert (image == expected['img']).all()


@pytest.mark.parametrize(
    ('array', 'expected'),
    [
        (RGB, RGB),
        (RAMP, RGB[..., :1]),
        (RAMP[..., None], RGB[..., :1]),
        (RGB.astype(np.int64), RGB),
        (RGB.astype(np.uint16) * 257, RGB),
        (RGB / 255, RGB),
        (np.asmatrix(RAMP), RGB[..., :1]),
        (np.ma.masked_array(RGB / 255), RGB),
        (RAMP > 100, (RAMP[..., None] > 100) * 255),
    ],
)
def test_arrays(array, expected):
    image, shape = read_image(array)
    assert image.dtype == np.uint8
    assert image.shape == (4, 6, 3)
    assert shape == (4, 6)
    assert (image == expected).all()


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (np.zeros((3, 8, 8), np.uint8), r'shape \(3, 8, 8\)'),
        (np.zeros((0, 4, 3), np.uint8), r'shape \(0, 4, 3\)'),
        (np.full((4, 4), 7.5), 'from 7.5 to 7.5 are not grey levels'),
        (np.full((4, 4), -1), 'from -1 to -1'),
        (np.full((4, 4), np.nan), 'nan'),
        (np.ma.masked_equal(np.eye(4), 0), 'a masked array'),
        (Image.new('RGB', (0, 4)), '0 x 4 pixels'),
    ],
)
def test_what_is_no_image_is_said(array, message):
    with pytest.raises(ValueError, match=message):
        read_image(array)


@pytest.mark.parametrize('trick', [b'', b'\xff\x01', b'\xff\xfe\x00\x04\xff\xd9', b'\xff\xff'])
def test_a_jpeg_that_goes_over_its_pixels_for_hours_is_refused(trick):
    data = encode(RGB, 'JPEG', progressive=True)
    again = data.rindex(b'\xff\xda')
    tables = data.rfind(b'\xff\xc4', 0, again)
    for repeats, refused in [(80, False), (120, True)]:
        longer = data[:tables] + trick + data[tables:-2] + data[again:-2] * repeats + data[-2:] + data[again:] * 120
        with pytest.raises(Mistake, match='more than 100 scans') if refused else nullcontext():
            assert read_image(longer)[1] == (4, 6)
    mask = encode(np.zeros((8, 8), np.uint8), 'JPEG', progressive=True)
    with pytest.raises(Mistake, match='more than 100 scans'):
        read_mask('mask.jpg', mask[:-2] + mask[mask.rindex(b'\xff\xda') : -2] * 120 + mask[-2:])


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF'])
def test_a_file_cut_off_is_refused(kind):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encode(noise, kind)
    with pytest.raises((ValueError, OSError)):
        read_image(data[: len(data) // 2])


def test_an_eps_is_refused_before_pillow_starts_a_program_for_it(monkeypatch):
    monkeypatch.setattr('PIL.EpsImagePlugin.Ghostscript', lambda *_, **__: pytest.fail('Ghostscript was started'))
    with pytest.raises(Mistake, match='not an image that can be read'):
        read_image(encode(RGB, 'EPS'))


@pytest.mark.parametrize('kind', ['BMP', 'JPEG', 'PNG', 'WEBP'])  # for the tiles of a TIFF, Pillow's counts, too
def test_the_limit_is_that_of_the_caller_and_not_pillows(kind, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 8)
    assert read_image(encode(RGB, kind), max_pixels=24)[1] == (4, 6)
    with pytest.raises(ValueError, match=r'6 x 4 pixels are .*--max-pixels'):
        read_image(encode(RGB, kind), max_pixels=23)


def test_a_file_that_is_too_long_or_has_no_end_is_refused(tmp_path):
    with (tmp_path / 'long').open('wb') as file:
        file.truncate(17_000_000)
    with pytest.raises(Mistake, match=r'a file of more than 16 MB; .*--max-pixels'):
        read_image(tmp_path / 'long', max_pixels=1)
    with pytest.raises(Mistake, match='/dev/zero: a device or a pipe'):
        read_image(Path('/dev/zero'))


class TestDicom:
    """Files made here, by pydicom."""

    @pytest.fixture
    def write(self):
        pydicom = pytest.importorskip('pydicom')

        def write(pixels, photometric, **tags):
            dataset = pydicom.Dataset()
            dataset.SOPClassUID, dataset.SOPInstanceUID = '1.2.840.10008.5.1.4.1.1.77.1.4', '1.2.3'
            dataset.Rows, dataset.Columns = pixels.shape[:2]
            dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
            if pixels.ndim == 3:
                dataset.PlanarConfiguration = 0
            dataset.PhotometricInterpretation = photometric
            dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
            dataset.PixelRepresentation = 0
            dataset.update(tags) if tags else None
            dataset.HighBit = dataset.BitsStored - 1
            dataset.PixelData = pixels.tobytes()
            dataset.file_meta = pydicom.dataset.FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            file = BytesIO()
            pydicom.dcmwrite(file, dataset, enforce_file_format=True)
            return file.getvalue()

        return write

    def test_colour(self, write):
        image, shape = read_image(write(RGB, 'RGB'))
        assert (image == RGB).all()
        assert shape == (4, 6)

    def test_luminance_and_chroma(self, write):
        grey = np.full((4, 6, 3), 128, np.uint8)  # chroma 128 is grey
        grey[..., 0] = RAMP
        assert read_image(write(grey, 'YBR_FULL'))[0] == pytest.approx(np.repeat(RAMP[..., None], 3, axis=2), abs=1)

    @pytest.mark.parametrize(('photometric', 'first'), [('MONOCHROME2', 0), ('MONOCHROME1', 255)])
    def test_twelve_bits_of_grey(self, write, photometric, first):
        image, _ = read_image(write(np.array([[0, 4095]], np.uint16), photometric, BitsStored=12))
        assert image[..., 0].tolist() == [[first, 255 - first]]

    def test_twelve_bits_of_colour(self, write):
        pixels = np.array([[[0, 2048, 4095]]], np.uint16)
        assert read_image(write(pixels, 'RGB', BitsStored=12))[0].tolist() == [[[0, 128, 255]]]

    def test_colours_of_another_kind_are_refused(self, write):
        with pytest.raises(Mistake, match='3 channels of HSV'):
            read_image(write(RGB, 'HSV'))

    def test_grey_that_is_rescaled_and_windowed(self, write):
        """Stored 0 to 4095 are -1024 to 3071; the window shows -1024 to 1023."""
        window = dict(WindowCenter=0, WindowWidth=2048, VOILUTFunction='LINEAR_EXACT')
        pixels = np.array([[0, 1024, 2048, 4095]], np.uint16)
        data = write(pixels, 'MONOCHROME2', BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024, **window)
        assert read_image(data)[0][0, :, 0].tolist() == pytest.approx([0, 128, 255, 255], abs=1)

    @pytest.mark.parametrize(
        'rescale', [dict(RescaleSlope=0.1, RescaleIntercept=7), dict(RescaleSlope=None), dict(RescaleSlope=2)]
    )
    def test_grey_that_is_rescaled(self, write, rescale):
        pixels = np.array([[0, 4095]], np.uint16)
        data = write(pixels, 'MONOCHROME2', BitsStored=12, **rescale)
        assert read_image(data)[0][0, :, 0].tolist() == [0, 255]

    def test_several_frames_are_refused(self, write):
        with pytest.raises(ValueError, match='2 frames'):
            read_image(write(RGB, 'RGB', NumberOfFrames=2))

    def test_without_pydicom_the_extra_is_named(self, write, monkeypatch):
        data = write(RGB, 'RGB')
        monkeypatch.setitem(__import__('sys').modules, 'pydicom', None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install '\.\[dicom\]'"):
            read_image(data)


class TestTrainingAndPredictionAgree:
    """One reader: what a network is trained with is what it sees when it predicts."""

    @staticmethod
    def both(path):
        trained = LoadImage(16).transform(dict(img_path=str(path)))
        (source,) = find_images(path)
        predicted, shape = source.read(16)
        np.testing.assert_array_equal(trained['img'], predicted)
        assert trained['ori_shape'] == shape
        return predicted, shape

    @pytest.mark.parametrize('mode', ['RGBA', 'LA', 'CMYK', 'LAB', 'P', 'L', '1', 'I;16'])
    def test_any_mode(self, tmp_path, mode):
        pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
        image = Image.fromarray(pixels)
        if mode == 'I;16':
            image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        elif mode == 'LAB':
            image = Image.frombytes('LAB', (40, 30), pixels.tobytes())
        else:
            image = image.convert(mode)
        suffix = 'tif' if mode in ('CMYK', 'LAB') else 'png'
        image.save(tmp_path / f'a.{suffix}')
        rgb, shape = self.both(tmp_path / f'a.{suffix}')
        assert rgb.shape == (30, 40, 3)
        assert shape == (30, 40)

    def test_colours_of_16_bits(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint16)
        for name in ('a.png', 'b.tif'):
            cv2.imwrite(str(tmp_path / name), pixels[..., ::-1] * 257)
            assert (self.both(tmp_path / name)[0] == pixels).all()

    def test_the_same_is_refused(self, tmp_path):
        cv2.imwrite(str(tmp_path / 'a.png'), np.full((30, 40, 3), 4095, np.uint16))
        (source,) = find_images(tmp_path / 'a.png')
        for read in (lambda: LoadImage(16).transform(dict(img_path=str(tmp_path / 'a.png'))), lambda: source.read(16)):
            with pytest.raises(Mistake, match=r'a\.png: its brightest value is 4095 of 65535'):
                read()

    def test_transparency_is_white(self, tmp_path):
        Image.new('RGBA', (40, 30), (10, 20, 30, 0)).save(tmp_path / 'a.png')
        assert (self.both(tmp_path / 'a.png')[0] == 255).all()

    @pytest.mark.parametrize(
        'block',
        [
            b'garbage!',
            b'II*\0',
            b'II*\0\x08\0\0\0\x05\0\x12\x01\x03\0',
            b'II*\0\x08\0\0\0\x01\0' + struct.pack('<HHI', 0x112, 1, 1) + b'\x06\0\0\0' + bytes(4),
            b'II*\0\x08\0\0\0\x01\0' + struct.pack('<HHI', 0x112, 3, 1) + b'\x63\0\0\0' + bytes(4),
        ],
        ids=['garbage', 'head alone', 'cut directory', 'orientation as a byte', 'orientation 99'],
    )
    def test_damaged_exif_decides_nothing(self, tmp_path, block):
        file = BytesIO()
        Image.new('RGB', (40, 30), (180, 120, 100)).save(file, 'JPEG')
        plain, block = file.getvalue(), b'Exif\0\0' + block
        marked = plain[:2] + b'\xff\xe1' + struct.pack('>H', len(block) + 2) + block + plain[2:]
        (tmp_path / 'a.jpg').write_bytes(marked)
        rgb, shape = self.both(tmp_path / 'a.jpg')
        assert rgb.shape[:2] == shape
        assert sorted(shape) == [30, 40]

    @pytest.mark.parametrize('mode', ['RGB', 'RGBA'])
    @pytest.mark.parametrize(
        'chunk',
        [
            (b'pHYs', b'abc'),
            (b'cHRM', b'abc'),
            (b'sRGB', b''),
            (b'gAMA', b'\1'),
            (b'acTL', b'x'),
            (b'fcTL', b'x'),
            (b'iCCP', b'a\0\0' + zlib.compress(bytes(80 << 20), 1)),
            (b'eXIf', b'MM\0*'),
        ],
        ids=lambda chunk: chunk[0].decode(),
    )
    def test_damaged_notes_of_a_png_decide_nothing(self, tmp_path, chunk, mode):
        kind, content = chunk
        file = BytesIO()
        Image.fromarray(RGB).convert(mode).save(file, 'PNG')
        plain = file.getvalue()
        right = zlib.crc32(kind + content)
        for at in (33, len(plain) - 12):  # behind the head, and before the end
            for checksum in (right, right ^ 1):
                noted = struct.pack('>I', len(content)) + kind + content + struct.pack('>I', checksum)
                (tmp_path / 'a.png').write_bytes(plain[:at] + noted + plain[at:])
                assert (self.both(tmp_path / 'a.png')[0] == RGB).all()

    @pytest.mark.parametrize(
        ('marker', 'content'),
        [
            (0xE0, b'JFIF\0'),
            (0xE2, b'ICC_PROFILE\0'),
            (0xEE, b'Adobe\0'),
            (0xED, b'Photoshop 3.0\x008BIM\x04'),
            (0xFE, b''),
        ],
    )
    def test_damaged_notes_of_a_jpeg_decide_nothing(self, tmp_path, marker, content):
        file = BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(RGB).save(file, 'JPEG', exif=exif)
        plain = file.getvalue()
        (tmp_path / 'a.jpg').write_bytes(plain)
        (tmp_path / 'b.jpg').write_bytes(
            plain[:2] + struct.pack('>BBH', 255, marker, len(content) + 2) + content + plain[2:]
        )
        assert (self.both(tmp_path / 'b.jpg')[0] == self.both(tmp_path / 'a.jpg')[0]).all()

    @pytest.mark.parametrize('depth', [1, 2, 4])
    def test_one_level_of_few_bits_may_be_transparent(self, tmp_path, depth):
        def chunk(kind, content):
            return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

        top = 2**depth - 1
        bits = np.unpackbits(np.array([[0], [top]], np.uint8), axis=1)[:, -depth:]
        row = np.packbits(np.tile(bits.reshape(-1), 8 // depth)).tobytes()  # levels 0 and top in turn
        for level, expected in ((0, [255, 255]), (top, [0, 255])):
            head, pixels = struct.pack('>IIBBBBB', 16 // depth, 1, depth, 0, 0, 0, 0), zlib.compress(b'\0' + row)
            parts = ((b'IHDR', head), (b'tRNS', struct.pack('>H', level)), (b'IDAT', pixels), (b'IEND', b''))
            data = b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*part) for part in parts)
            (tmp_path / 'a.png').write_bytes(data)
            assert self.both(tmp_path / 'a.png')[0][0, :2, 0].tolist() == expected
        middle = struct.pack('>H', 1)
        if depth == 4:  # neither 0 nor white is transparent
            data = data.replace(chunk(b'tRNS', struct.pack('>H', level)), chunk(b'tRNS', middle))
            (tmp_path / 'a.png').write_bytes(data)
            assert self.both(tmp_path / 'a.png')[0][0, :2, 0].tolist() == [0, 255]

    def test_a_huge_image_is_named_before_it_is_decoded(self, tmp_path):
        Image.new('1', (20000, 10000)).save(tmp_path / 'big.png')
        with pytest.raises(Mistake, match='big.png: 20000 x 10000 pixels'):
            LoadImage(64).transform(dict(img_path=str(tmp_path / 'big.png')))
