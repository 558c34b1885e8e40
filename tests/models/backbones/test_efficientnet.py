import torch
from timm.layers import DropPath

from mmskin.registry import MODELS


def rates(**options):
    chain = MODELS.build(dict(type='EfficientNetLite0Chain', **options))
    return [module.drop_prob for module in chain.modules() if isinstance(module, DropPath)]


def test_stochastic_depth_grows_with_depth():
    """0.2 i / 16 at the i-th of 16 blocks; the first block's is 0, and what has no residual path ignores it."""
    found = rates(drop_path=0.2)
    torch.testing.assert_close(found, [0.2 * index / 16 for index in range(1, 16)])


def test_without_it_there_is_none():
    assert rates() == []


def test_it_is_for_training_alone():
    torch.manual_seed(0)
    chain = MODELS.build(dict(type='EfficientNetLite0Chain', drop_path=0.9)).eval()
    plain = MODELS.build(dict(type='EfficientNetLite0Chain'))
    plain.load_state_dict(chain.state_dict())
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(chain(images), plain.eval()(images))
