"""Masks as labelling tools store them: the lesion is read, or the file is named; it is never silently lost."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmskin.datasets.transforms.loading import LoadMask
from mmskin.errors import MissingFile, Mistake
from mmskin.evaluation.submission import score_submission
from mmskin.readers.masks import read_mask

MASK = np.zeros((40, 50), np.uint8)
MASK[10:30, 10:40] = 1  # 600 pixels


def palette(*colours):
    def make(path):
        image = Image.fromarray(MASK, 'P')
        image.putpalette([value for colour in colours for value in colour])
        image.save(path)

    return make


def inverted_palette(path):
    """Index 0 is white: the lesion is where the index is 0."""
    image = Image.fromarray(1 - MASK, 'P')
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(path)


def alpha(path):
    pixels = np.zeros((40, 50, 4), np.uint8)
    pixels[..., 3] = MASK * 255
    Image.fromarray(pixels).save(path)  # which says in a TIFF what the fourth channel is


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(MASK * 255)).save(path, exif=exif)


GOOD = {
    '8 bits, 1': lambda path: cv2.imwrite(str(path), MASK),
    '8 bits, 255': lambda path: cv2.imwrite(str(path), MASK * 255),
    '16 bits, 1': lambda path: cv2.imwrite(str(path), MASK.astype(np.uint16)),
    '16 bits, 255': lambda path: cv2.imwrite(str(path), MASK * np.uint16(255)),
    '16 bits, 65535': lambda path: cv2.imwrite(str(path), MASK * np.uint16(65535)),
    '16 bits, three channels': lambda path: cv2.imwrite(str(path), np.dstack([MASK.astype(np.uint16)] * 3)),
    'bits': lambda path: Image.fromarray(MASK.astype(bool)).save(path),
    'grey palette': palette((0, 0, 0), (255, 255, 255)),
    'coloured palette': palette((0, 0, 0), (128, 0, 0)),
    'inverted palette': inverted_palette,
    'palette of one colour': palette((0, 0, 0), (0, 0, 0)),
    'three channels': lambda path: cv2.imwrite(str(path), np.dstack([MASK * 255] * 3)),
    'alpha channel': alpha,
    'turned by EXIF': turned,
}


@pytest.mark.parametrize('write', GOOD.values(), ids=GOOD.keys())
@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_the_lesion_is_read(tmp_path, write, suffix):
    write(tmp_path / f'mask.{suffix}')
    mask = read_mask(tmp_path / f'mask.{suffix}')
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, MASK)


BAD = {
    'grey': (lambda path: cv2.imwrite(str(path), MASK * 100), 'holds the values 0, 100;'),
    'three values': (lambda path: cv2.imwrite(str(path), np.vstack([MASK, MASK * 255])), 'holds the values 0, 1, 255'),
    'colours': (lambda path: cv2.imwrite(str(path), np.dstack([MASK * 255, MASK, MASK])), 'its channels differ'),
    'colours of 16 bits': (
        lambda path: cv2.imwrite(str(path), np.dstack([MASK, MASK, MASK * 0]).astype(np.uint16)),
        'its channels differ',
    ),
    'pages': (
        lambda path: Image.fromarray(MASK).save(path, 'TIFF', save_all=True, append_images=[Image.fromarray(MASK)]),
        'several pages',
    ),
    'no image': (lambda path: path.write_bytes(b'none'), 'not a mask that can be read'),
    'empty': (lambda path: path.write_bytes(b''), 'not a mask that can be read'),
    'cut off': (lambda path: path.write_bytes(cv2.imencode('.png', MASK)[1].tobytes()[:-30]), 'truncated'),
}


@pytest.mark.parametrize(('write', 'message'), BAD.values(), ids=BAD.keys())
def test_what_is_no_mask_is_named(tmp_path, write, message):
    write(tmp_path / 'mask.png')
    with pytest.raises(Mistake, match=f'mask.png.*{message}'):
        read_mask(tmp_path / 'mask.png')
    with pytest.raises(MissingFile, match='gone.png'):
        read_mask(Path('gone.png'))


def test_training_and_scoring_read_masks_alike(tmp_path):
    truth, submitted = tmp_path / 'ISIC-2017_Validation_Part1_GroundTruth', tmp_path / 'submission/Part1'
    for folder in (truth, submitted):
        folder.mkdir(parents=True)
    cv2.imwrite(str(truth / 'A_segmentation.png'), MASK)  # 0 and 1
    cv2.imwrite(str(submitted / 'A_segmentation.png'), MASK * 255)
    sample = dict(img_path='A.jpg', ori_shape=MASK.shape, seg_map_path=str(truth / 'A_segmentation.png'))
    np.testing.assert_array_equal(LoadMask().transform(sample)['gt_seg_map'], MASK)
    assert score_submission(tmp_path / 'submission', tmp_path, 'val')['segmentation']['JA'] == 1.0
