"""Options for single parameters that are for none are refused, with near matches."""

import pytest
import torch
from torch import nn

from mmskin.config import load_config
from mmskin.engine.paramwise import check_paramwise
from mmskin.engine.stages import run_stages
from mmskin.errors import Mistake
from mmskin.registry import MODELS

OPTIMIZER = dict(type='AdamW', lr=1e-3, weight_decay=0.02)


@pytest.fixture(scope='module')
def network(small_config):
    torch.manual_seed(0)
    return MODELS.build(small_config.model)


def check(network, **paramwise):
    check_paramwise(dict(type='OptimWrapper', optimizer=OPTIMIZER, paramwise_cfg=paramwise), network)


@pytest.mark.parametrize(
    ('paramwise', 'words'),
    [
        (dict(custom_keys={'tasks.cls.hed': dict(lr_mult=10)}), "'tasks.cls.hed' matches no .* mean tasks.cls.head"),
        (dict(custom_keys={'backbon.shared': dict(lr_mult=10)}), 'did you mean backbone.shared'),
        (dict(custom_keys={'norm': dict(decay_mult=0)}), "'norm' matches no parameter"),
        (dict(custom_keys={'backbone': dict(lr_mul=0.1)}), "no option 'lr_mul'; did you mean lr_mult"),
        (dict(custom_keys={'backbone': 0.1}), 'give a dict'),
        (dict(custom_keys=['backbone']), 'give a dict of dicts'),
        (dict(custom_keys={'backbone': dict(lr_mult='fast')}), r"backbone\.lr_mult='fast': give a number"),
        (dict(norm_decay_multi=0), 'no such option; did you mean norm_decay_mult'),
        (dict(norm_decay_mult=-1), 'give a number from 0'),
        (dict(dwconv_decay_mult=0), 'dwconv_decay_mult=0: matches no parameter'),
        (dict(dcn_offset_lr_mult=0.1), 'dcn_offset_lr_mult=0.1: matches no parameter'),
    ],
)
def test_what_is_for_no_parameter_is_refused(paramwise, words, network):
    with pytest.raises(Mistake, match=words):
        check(network, **paramwise)


def test_what_is_for_some_parameter_or_part_is_taken(network):
    check(network, norm_decay_mult=0, bias_lr_mult=2, bias_decay_mult=0, flat_decay_mult=0, bypass_duplicate=True)
    check(network, custom_keys={'backbone': dict(lr_mult=0.1, betas=(0.8, 0.9)), '.bias': dict(decay_mult=0)})
    check(network, custom_keys={'passing.': dict(lr_mult=10), 'weighting': dict(lr_mult=10)})  # there is no weighting
    check(nn.Conv2d(4, 4, 3, groups=4), dwconv_decay_mult=0)


def test_other_constructors_have_options_of_their_own(network):
    options = dict(
        type='OptimWrapper', optimizer=OPTIMIZER, constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor'
    )
    check_paramwise(dict(**options, paramwise_cfg=dict(layer_decay_rate=0.7)), network)


def test_a_mistyped_key_costs_no_earlier_training(repository, data_root, tiny, tmp_path):
    (tmp_path / 'cls').mkdir()
    (tmp_path / 'cls' / 'stage.json').write_text('old')
    options = {**tiny, 'optim_wrapper.paramwise_cfg': dict(custom_keys={'backbones': dict(lr_mult=0.1)})}
    with pytest.raises(Mistake, match='did you mean backbone'):
        run_stages(
            load_config(repository / 'configs/fpm/r18_synthetic.py', str(tmp_path), str(data_root), options=options)
        )
    assert (tmp_path / 'cls' / 'stage.json').read_text() == 'old'
