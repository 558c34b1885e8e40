import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session', autouse=True)
def one_torch_thread():
    """Small tensors gain nothing from more, and results must not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session')
def repository():
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope='session')
def real_data():
    """The folder that holds ``isic2017_256`` and ``isic2017_native``; skips where there is none."""
    root = Path(os.environ.get('MMSKIN_TEST_DATA', ROOT.parent / 'shared' / 'data'))
    if not (root / 'isic2017_256').is_dir():
        pytest.skip(f'real images: no isic2017_256 in {root}; name its folder in MMSKIN_TEST_DATA')
    return root
