"""The memory format that CPUs and tensor cores prefer."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmskin.registry import HOOKS

__all__ = ['ChannelsLast']


@HOOKS.register_module()
class ChannelsLast(Hook):
    """Keep the model's weights in channels-last order; its convolutions then give their maps in it, too.

    https://docs.pytorch.org/tutorials/intermediate/memory_format_tutorial.html
    """

    priority = 'VERY_HIGH'  # before EMAHook copies the model

    def before_run(self, runner: Runner) -> None:
        """Convert the model before training or testing starts."""
        runner.model.to(memory_format=torch.channels_last)
