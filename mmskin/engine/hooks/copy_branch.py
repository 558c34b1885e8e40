"""Starting one branch from another's weights."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmskin.errors import Mistake
from mmskin.registry import HOOKS

__all__ = ['CopyBranch']


@HOOKS.register_module()
class CopyBranch(Hook):
    """Let the branch ``target`` start from the weights of the branch ``source`` in the checkpoint a stage starts from.

    The paper starts SegNet from ClsNet in this way. Done on the checkpoint as it is loaded, so that an averaged
    copy of the model (EMA) starts alike; a run that resumes keeps its own weights. Without a checkpoint there is
    nothing to do: all branches begin as copies of one another.
    """

    priority = 'HIGH'  # before EMAHook reads the checkpoint

    def __init__(self, source: str, target: str) -> None:
        self.source = f'backbone.branches.{source}.'
        self.target = f'backbone.branches.{target}.'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Overwrite the target's entries of ``checkpoint['state_dict']``."""
        if runner._resume:
            return
        weights = checkpoint['state_dict']
        copies = {key: key.replace(self.target, self.source, 1) for key in weights if key.startswith(self.target)}
        if not copies or not weights.keys() >= {*copies.values()}:
            raise Mistake(f'the checkpoint has no {self.source} with all the blocks of {self.target}')
        weights.update({key: weights[copy].clone() for key, copy in copies.items()})
