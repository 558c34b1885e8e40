"""What examples/ has as scripts, beside the package and the notebook, which have tests of their own."""

import json
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
from PIL import Image

from mmskin import LesionInferencer
from mmskin.cli import main
from mmskin.packaging.publish import publish_weights

SQUARE = [[2, 1], [5, 1], [5, 4], [2, 4]]
COCO = {
    'images': [{'id': 3, 'file_name': 'sub/a.jpg', 'width': 8, 'height': 6}],
    'annotations': [{'image_id': 3, 'segmentation': [[2, 1, 5, 1, 5, 4, 2, 4]]}],
}
LABELME = {'imageWidth': 8, 'imageHeight': 6, 'shapes': [{'shape_type': 'polygon', 'points': SQUARE}]}


@pytest.mark.parametrize(('name', 'outlines'), [('outlines.json', COCO), ('labelme/a.json', LABELME)])
def test_outlines_become_masks(name, outlines, repository, tmp_path):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(outlines))
    script = repository / 'examples' / 'outlines_to_masks.py'
    subprocess.run([sys.executable, script, name.split('/')[0], 'masks'], cwd=tmp_path, check=True)
    expected = np.zeros((6, 8), np.uint8)
    expected[1:5, 2:6] = 255
    assert np.asarray(Image.open(tmp_path / 'masks' / 'a.png')).tolist() == expected.tolist()


@pytest.mark.slow
def test_a_program_without_mmskin_answers_as_mmskin_does(repository, small_config, checkpoint, tmp_path):
    """Its threshold depends on the image, as that of the network that ships; a PNG is not shrunk when it is decoded."""
    pytest.importorskip('onnxruntime', reason="onnxruntime is not installed: pip install '.[onnx]'")
    photo = next((repository / 'mmskin' / 'samples').glob('*_2.jpg'))
    Image.open(photo).save(tmp_path / 'photo.png')
    cfg = deepcopy(small_config)
    cfg.test_dataloader.dataset.pipeline[0].size = 160  # which is not so small that mmskin would halve the photo first
    cfg.model.tasks.seg.threshold = 'expected_jaccard'
    publish_weights(cfg, checkpoint, tmp_path / 'model').card.write_text('')
    assert main(['export', '--model', str(tmp_path / 'model'), '--out', str(tmp_path / 'lesion.onnx')]) == 0
    script = repository / 'examples' / 'without_mmskin.py'
    command = [sys.executable, script, 'lesion.onnx', 'photo.png', 'mask.png']
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    inferencer = LesionInferencer(tmp_path / 'lesion.onnx', tta=False, post=[])
    prediction = inferencer(tmp_path / 'photo.png')
    assert json.loads(done.stdout) == pytest.approx(prediction.probabilities, abs=1e-4)
    mask = np.asarray(Image.open(tmp_path / 'mask.png')) > 0
    assert 0 < mask.mean() < 1
    assert (mask != prediction.mask).mean() < 1e-3
