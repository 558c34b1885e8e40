"""The model that comes with mmskin, and an image with something like a lesion."""

from io import BytesIO

import pytest
from PIL import Image

from mmskin import LesionInferencer
from mmskin.datasets.synthetic import SyntheticLesions


@pytest.fixture(scope='session')
def inferencer():
    return LesionInferencer(device='cpu')


@pytest.fixture(scope='session')
def photo():
    """An image file's bytes, 200 pixels wide and 160 high."""
    image, _, _ = SyntheticLesions(seed=5).sample('train', 0)
    file = BytesIO()
    Image.fromarray(image).save(file, 'PNG')
    return file.getvalue()


@pytest.fixture
def upload(tmp_path):
    """Lay bytes where Gradio would: in a folder for them alone; gives name and path."""

    def upload(name, content):
        folder = tmp_path / 'uploads' / str(len([*tmp_path.rglob('*')]))
        folder.mkdir(parents=True)
        path = folder / 'file'
        path.write_bytes(content)
        return name, path

    return upload
