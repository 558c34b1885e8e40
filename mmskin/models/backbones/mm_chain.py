"""Backbones of mmpretrain and mmseg as chains of blocks."""

import re
from contextlib import ExitStack
from unittest.mock import patch

from mmskin.models.backbones.chain import BlockChain
from mmskin.models.backbones.cut import cut
from mmskin.models.backbones.pretrained import fit_weights, read_pretrained
from mmskin.registry import MODELS, options_of

SPARE = re.compile(r'(fc|head|classifier|norm\d*)\.')  # a classifier, and norms of levels that are not given out


@MODELS.register_module()
class MMChain(BlockChain):
    """A backbone of mmpretrain or mmseg: its stages and blocks under their own names there.

    Its ``out_indices`` make no difference, since a branch names its ``out_blocks``; its ``frozen_stages`` and
    ``norm_eval`` neither, for which the model has ``frozen``.

    Args:
        backbone: Its config, e.g. ``dict(type='mmpretrain.SwinTransformer', arch='tiny')``. Weights that ``init_cfg``
            names are loaded as ``weights`` are.
        weights: Address or file of a checkpoint, of the backbone alone or of a network with it, or None.
        size: Side of the images in pixels, for networks that are built for one, and to measure the network at; by
            default the one of the config's pipeline, else 224.

    Raises:
        Mistake: if the network is no sequence of blocks, or the weights are another network's.
        MissingFile: if the weights are unavailable.
    """

    def __init__(self, backbone: dict, weights: str | None = None, size: int | None = None) -> None:
        kind = MODELS.get(backbone['type'])
        sized = {'img_size': size} if size and 'img_size' in options_of(kind) else {}
        size = size or backbone.get('img_size') or 224
        with ExitStack() as stack:
            if hasattr(kind, '_freeze_stages'):  # PoolFormer freezes its stem by default
                stack.enter_context(patch.object(kind, '_freeze_stages'))
            network = MODELS.build({**sized, **backbone})
        if hasattr(network, 'frozen_stages'):
            network.frozen_stages = -1  # `train` and `eval` freeze again
        with patch.object(network, '_dump_init_info'):  # a line for every tensor
            network.init_weights()
        if weights is not None:
            state = read_pretrained(weights)
            inner = {key.removeprefix('backbone.'): value for key, value in state.items() if key[:9] == 'backbone.'}
            own = network.state_dict()
            given = {name: tensor for name, tensor in (inner or state).items() if name in own or not SPARE.match(name)}
            fit_weights(network, given, weights, str(backbone['type']))
        super().__init__(cut(network, 'forward', size), size)
