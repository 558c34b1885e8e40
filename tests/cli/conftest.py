"""A model folder from random weights, small enough to be built for the tests of one file."""

import pytest
import torch
from mmengine.registry import init_default_scope
from narrow import SLIM

from mmskin.config import load_config
from mmskin.packaging.publish import publish_weights
from mmskin.registry import MODELS


@pytest.fixture(scope='session')
def model(repository, tmp_path_factory):
    """The demo's network at 48 pixels, slim."""
    folder = tmp_path_factory.mktemp('models')
    options = {**SLIM, 'test_dataloader.dataset.pipeline.0.size': 48}
    cfg = load_config(repository / 'configs/fpm/r18_synthetic.py', options=options)
    init_default_scope('mmskin')
    torch.manual_seed(0)
    weights = MODELS.build(cfg.model).state_dict()
    for name in weights:
        if name.startswith('tasks.seg.head.branches') and name.endswith('weight'):
            weights[name] *= -30  # or no pixel would be lesion
    torch.save({'state_dict': weights}, folder / 'small.pth')
    published = publish_weights(cfg, folder / 'small.pth', folder / 'small')
    published.card.write_text('')
    return str(published.config.parent)
