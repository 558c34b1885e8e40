"""The base networks are the joint network without the other task: what is compared differs in nothing else."""

from pathlib import Path

import pytest

from mmskin.config import load_config
from mmskin.engine.stages import stage_configs

CONFIGS = Path(__file__).parents[1] / 'configs'
SAME = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'optim_wrapper', 'custom_hooks', 'randomness')
BASES = [
    ('classification/r101_isic2017.py', 'fpm/r101_isic2017.py', 'cls', 80 + 45),
    ('classification/lite0_isic2017.py', 'fpm/lite0_isic2017.py', 'cls', None),
    ('segmentation/deeplab_r101_isic2017.py', 'fpm/r101_isic2017.py', 'seg', 150 + 45),
    ('segmentation/lite0_isic2017.py', 'fpm/lite0_isic2017.py', 'seg', None),
]


@pytest.mark.parametrize(('base', 'joint', 'task', 'epochs'), BASES)
def test_base_differs_in_its_tasks_alone(base, joint, task, epochs):
    base, joint = load_config(CONFIGS / base), load_config(CONFIGS / joint)
    assert list(base.model.tasks) == list(base.model.backbone.branches) == [task]
    assert base.model.tasks[task] == joint.model.tasks[task]
    assert base.model.backbone.branches[task] == joint.model.backbone.branches[task]
    assert base.model.backbone.chain == joint.model.backbone.chain
    assert base.model.data_preprocessor == joint.model.data_preprocessor
    assert all(base[key] == joint[key] for key in SAME)
    of_stage = {stage.stage: stage.train_cfg.max_epochs for stage in stage_configs(joint)}
    wanted = epochs or (of_stage['cls'] + of_stage['joint'] if task == 'cls' else sum(of_stage.values()))
    assert sum(stage.train_cfg.max_epochs for stage in stage_configs(base)) == wanted
