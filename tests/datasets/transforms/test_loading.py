import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from mmskin.datasets.transforms.loading import LoadImage, LoadMask, ResizeImage
from mmskin.errors import Mistake
from mmskin.readers.images import read_image

LEFT_RED = np.zeros((64, 96, 3), np.uint8)
LEFT_RED[:, :48, 0] = 255


def jpeg(pixels, **options):
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, 'jpeg', **{'quality': 95, **options})
    return buffer.getvalue()


def load(tmp_path, data, **arguments):
    path = tmp_path / 'image.jpg'
    path.write_bytes(data)
    return LoadImage(**arguments)({'img_path': str(path)})


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def test_images_are_rgb(tmp_path):
    results = load(tmp_path, jpeg(LEFT_RED))
    assert results['img'].dtype == np.uint8
    assert results['img'][32, 10].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert results['img'][32, 80].tolist() == pytest.approx([0, 0, 0], abs=3)


def test_grey_images_have_three_channels_too(tmp_path):
    assert load(tmp_path, jpeg(LEFT_RED[..., 0]))['img'].shape == (64, 96, 3)


@pytest.mark.parametrize(
    ('shape', 'min_size', 'scale'),
    [
        ((2016, 3024), 233, 8),
        ((1936, 2592), 242, 8),
        ((1935, 2592), 242, 4),  # 1935 / 8 is 241.9
        ((768, 1024), 233, 2),
        ((256, 256), 233, 1),
        ((100, 4000), 233, 1),
        ((768, 1024), 233 / 0.6, 1),
    ],
)
def test_the_largest_reduction_that_keeps_the_size(shape, min_size, scale):
    file = BytesIO()
    Image.new('L', shape[::-1]).save(file, 'JPEG')
    image, stated = read_image(file.getvalue(), min_size)
    assert stated == shape
    assert image.shape[:2] == tuple(-(-side // scale) for side in shape)


@pytest.mark.parametrize(('size', 'shape'), [(None, (64, 96)), (33, (64, 96)), (32, (32, 48)), (9, (16, 24))])
def test_reduced_decoding_never_falls_below_the_size(tmp_path, size, shape):
    results = load(tmp_path, jpeg(LEFT_RED), size=size)
    assert results['img'].shape[:2] == results['img_shape'] == shape
    assert results['ori_shape'] == (64, 96)
    assert results['input_size'] == size


def test_crops_to_come_are_counted_in(tmp_path):
    assert load(tmp_path, jpeg(LEFT_RED), size=30, smallest_crop=0.8)['img_shape'] == (64, 96)


def test_png_is_reduced_as_jpeg_is(tmp_path):
    buffer = BytesIO()
    Image.fromarray(LEFT_RED).save(buffer, 'png')
    results = load(tmp_path, buffer.getvalue(), size=16)
    assert results['img_shape'] == (16, 24)
    assert results['ori_shape'] == (64, 96)


@pytest.mark.parametrize('size', [None, 16])
@pytest.mark.parametrize(
    ('turn', 'red_at'), [(1, (0.5, 0.1)), (2, (0.5, 0.9)), (3, (0.5, 0.9)), (6, (0.1, 0.5)), (8, (0.9, 0.5))]
)
def test_exif_orientation_is_applied_to_pixels_and_size(tmp_path, size, turn, red_at):
    results = load(tmp_path, jpeg(LEFT_RED, exif=orientation(turn)), size=size)
    assert results['ori_shape'] == ((64, 96) if turn < 5 else (96, 64))
    height, width = results['img_shape']
    assert (height < width) == (turn < 5)
    assert results['img'][int(red_at[0] * height), int(red_at[1] * width), 0] > 250


XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'


@pytest.mark.parametrize('exif', [b'', orientation(1)])
def test_an_orientation_in_xmp_alone_turns_neither_size_nor_pixels(tmp_path, exif):
    results = load(tmp_path, jpeg(LEFT_RED, xmp=XMP, exif=exif))
    assert results['ori_shape'] == results['img_shape'] == (64, 96)


@pytest.mark.parametrize(('behind', 'shape'), [(12, (96, 64)), (0, (64, 96))])  # what is after its end is no part
def test_an_orientation_at_the_end_of_a_png_turns_both(tmp_path, behind, shape):
    buffer = BytesIO()
    Image.fromarray(LEFT_RED).save(buffer, 'png')
    body = b'eXIf' + orientation(6).removeprefix(b'Exif\0\0')
    chunk = (len(body) - 4).to_bytes(4, 'big') + body + zlib.crc32(body).to_bytes(4, 'big')
    at = len(buffer.getvalue()) - behind
    results = load(tmp_path, buffer.getvalue()[:at] + chunk + buffer.getvalue()[at:])
    assert results['ori_shape'] == results['img_shape'] == shape


@pytest.mark.parametrize('turn', [1, 3, 6, 8])
def test_a_turned_tiff_has_the_size_of_its_pixels(tmp_path, turn):
    buffer = BytesIO()
    Image.fromarray(LEFT_RED).save(buffer, 'tiff', exif=orientation(turn))
    results = load(tmp_path, buffer.getvalue())
    assert results['ori_shape'] == results['img_shape'] == ((64, 96) if turn < 5 else (96, 64))


def test_a_mask_follows_the_upright_image(tmp_path):
    results = load(tmp_path, jpeg(LEFT_RED, exif=orientation(6)))
    path = str(tmp_path / 'mask.png')
    cv2.imwrite(path, np.zeros((96, 64), np.uint8))
    assert LoadMask()(results | {'seg_map_path': path})['gt_seg_map'].shape == (96, 64)
    cv2.imwrite(path, np.zeros((64, 96), np.uint8))
    with pytest.raises(ValueError, match='upright'):
        LoadMask()(results | {'seg_map_path': path})


def test_bytes_after_the_image_are_allowed(tmp_path):
    assert load(tmp_path, jpeg(LEFT_RED) + bytes(1000))['img_shape'] == (64, 96)


def test_a_film_after_the_image_is_allowed_whatever_is_in_it(tmp_path):
    film = b'\0\0\0\x18ftypmp42' + bytes(100) + b'\xff\xda' + bytes(100)
    assert load(tmp_path, jpeg(LEFT_RED) + film)['img_shape'] == (64, 96)


def test_bytes_between_the_segments_are_allowed(tmp_path):
    data = jpeg(LEFT_RED)
    assert load(tmp_path, data[:2] + b'\xff\xff' + data[2:])['img_shape'] == (64, 96)


def test_other_formats_are_refused_before_pillow_starts_a_program_for_them(tmp_path, monkeypatch):
    buffer = BytesIO()
    Image.fromarray(LEFT_RED).save(buffer, 'eps')
    monkeypatch.setattr('PIL.EpsImagePlugin.Ghostscript', lambda *_, **__: pytest.fail('Ghostscript was started'))
    with pytest.raises(ValueError, match='image.jpg: not an image that can be read') as caught:
        load(tmp_path, buffer.getvalue())
    assert isinstance(caught.value.__cause__, UnidentifiedImageError)


def noisy_jpeg(**options):
    return jpeg(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8), **options)


def test_a_jpeg_whose_pixels_cannot_be_decoded_is_named(tmp_path):
    """OpenCV gives a grey picture."""
    data = bytearray(jpeg(LEFT_RED))
    table = data.find(b'\xff\xc4')  # of Huffman codes
    data[table + 5 : table + 21] = b'\xff' * 16
    with pytest.raises(Mistake, match='image.jpg: not an image that can be read'):
        load(tmp_path, bytes(data))


@pytest.mark.parametrize('kind', ['RGB', 'RGBA', 'P', '1', 'L', 'I;16'])
def test_a_png_whose_checksums_are_wrong_is_named(tmp_path, kind):
    photo = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    image = Image.fromarray(photo).convert('L' if kind == 'I;16' else kind)
    if kind == 'I;16':
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    buffer = BytesIO()
    image.save(buffer, 'png', compress_level=0)
    data = bytearray(buffer.getvalue())
    data[data.find(b'IDAT') + 40] ^= 1  # a stored pixel
    for read in (LoadImage(), LoadMask()):
        (tmp_path / 'image.png').write_bytes(data)
        names = {'img_path': str(tmp_path / 'image.png'), 'seg_map_path': str(tmp_path / 'image.png')}
        with pytest.raises(Mistake, match='image.png: damaged: the checksum of its IDAT is wrong'):
            read({**names, 'ori_shape': (64, 96)})


@pytest.mark.parametrize('progressive', [False, True])
@pytest.mark.parametrize('kept', [0.5, 0.7, 0.99])
def test_a_jpeg_cut_off_within_its_pixels_is_truncated(tmp_path, progressive, kept):
    data = noisy_jpeg(progressive=progressive)
    with pytest.raises(ValueError, match='image.jpg: truncated'):
        load(tmp_path, data[: int(kept * len(data))])


def test_a_download_that_left_zeros_is_truncated(tmp_path):
    data = noisy_jpeg()
    with pytest.raises(ValueError, match='image.jpg: truncated'):
        load(tmp_path, data[: len(data) // 2] + bytes(len(data) // 2))


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image(tmp_path):
    thumbnail = jpeg(LEFT_RED[::4, ::4])
    comment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    data = noisy_jpeg()
    data = data[:2] + comment + data[2:]
    assert load(tmp_path, data)['img_shape'] == (64, 96)
    with pytest.raises(ValueError, match='image.jpg: truncated'):
        load(tmp_path, data[: -len(data) // 3])


@pytest.mark.parametrize('index', range(0, 8, 2))
def test_reduced_decoding_of_real_images_is_near_the_full_one(real_data, index):
    path = sorted((real_data / 'isic2017_native' / 'ISIC-2017_Validation_Data').glob('*.jpg'))[index]
    reduced = ResizeImage()(LoadImage(size=256)({'img_path': str(path)}))['img'].astype(float)
    full = ResizeImage(256)(LoadImage()({'img_path': str(path)}))['img'].astype(float)
    assert np.abs(reduced - full).mean() < 0.6  # of 255 grey levels
    assert np.abs(reduced - full).max() < 40


@pytest.mark.parametrize(('shape', 'size'), [((60, 90), 32), ((20, 30), 32), ((32, 32), 32), ((20, 90), 32)])
def test_resizing_squashes_the_image_alone(shape, size):
    results = {'img': np.full((*shape, 3), 7, np.uint8), 'gt_seg_map': np.ones(shape, np.uint8)}
    ResizeImage(size)(results)
    assert results['img'].shape == (size, size, 3)
    assert results['img_shape'] == (size, size)
    assert results['gt_seg_map'].shape == shape


def test_a_pipeline_without_a_size():
    with pytest.raises(ValueError, match='give LoadImage a size'):
        ResizeImage()({'img': LEFT_RED})


@pytest.mark.parametrize('size', [0, -3, 1.5, 1_000_000])
def test_a_size_that_no_network_takes_is_refused(size):
    with pytest.raises(Mistake, match=f'size={size} of LoadImage: give a whole number of pixels from 1 to 7071'):
        LoadImage(size=size)
