"""One of two processes that train one stage over gloo as its options say; run by ``test_two_passes.py``."""

import json
import sys
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from torch.nn.modules.batchnorm import _BatchNorm

sys.path.append(str(Path(__file__).parent))
from mmskin.config import load_config
from mmskin.engine.stages import run_stages
from mmskin.models.multitask import MultiTaskModel
from mmskin.registry import MODELS


@MODELS.register_module()
class TwoSteps(MultiTaskModel):
    """A network whose own training step takes two passes: it climbs, comes back and goes down."""

    def train_step(self, data, optim_wrapper):
        data = self.data_preprocessor(data, True)
        loss, logged = self.parse_losses(self._run_forward(data, mode='loss'))
        optim_wrapper.backward(loss)
        climbed = [(one, one.grad * 0.5) for one in self.parameters() if one.grad is not None]
        with torch.no_grad():
            for one, step in climbed:
                one += step
        optim_wrapper.zero_grad()
        optim_wrapper.backward(self.parse_losses(self(**data, mode='loss'))[0])
        with torch.no_grad():
            for one, step in climbed:
                one -= step
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        return logged


def train_all(config, folder, data_root, variants, launcher='none'):
    """Train each variant in a folder of its name, without the statistics of a batch, which are each process's own."""
    for name, options in variants.items():
        cfg = load_config(config, str(Path(folder, name)), data_root, options=options, launcher=launcher)
        init_default_scope('mmskin')
        parts = MODELS.build(cfg.model).named_modules()
        cfg.model.frozen = [path for path, part in parts if isinstance(part, _BatchNorm)]
        run_stages(cfg)


if __name__ == '__main__':
    train_all(*sys.argv[1:4], json.loads(sys.argv[4]), launcher='pytorch')
