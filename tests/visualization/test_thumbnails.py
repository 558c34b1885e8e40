"""Images made small."""

import numpy as np
import pytest
from PIL import Image

from mmskin.visualization.overlay import read_thumbnail


@pytest.mark.parametrize(('turn', 'shape', 'white_at'), [(1, (40, 80), (20, 10)), (6, (80, 40), (10, 20))])
def test_a_photograph_is_drawn_upright(tmp_path, turn, shape, white_at):
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(image).save(tmp_path / 'turned.jpg', exif=exif.tobytes(), quality=95)
    thumbnail = read_thumbnail(str(tmp_path / 'turned.jpg'))
    assert thumbnail.shape[:2] == shape
    assert thumbnail[white_at].min() > 250


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg'):
        read_thumbnail(str(tmp_path / 'gone.jpg'))
