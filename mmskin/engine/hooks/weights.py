"""Weights at the ends of a stage: one branch starts from those of another, and the stage ends with the best ones."""

from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmskin.errors import Mistake
from mmskin.models.watch import unwrap
from mmskin.registry import HOOKS


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

    def before_run(self, runner: Runner) -> None:
        """Look for the two branches, which are the network's."""
        weights = unwrap(runner.model).state_dict()
        for branch in (self.source, self.target):
            if not any(key.startswith(branch) for key in weights):
                raise Mistake(f'CopyBranch: the network has no {branch.rstrip(".")}; name two of its tasks')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Overwrite the target's entries of ``checkpoint['state_dict']``."""
        if runner._resume:
            return
        weights = checkpoint['state_dict']
        copies = {key: key.replace(self.target, self.source, 1) for key in weights if key.startswith(self.target)}
        if not copies or not weights.keys() >= {*copies.values()}:
            raise Mistake(f'the checkpoint has no {self.source} with all the blocks of {self.target}')
        weights.update({key: weights[copy].clone() for key, copy in copies.items()})


def keep_best(cfg: Config) -> str | None:
    """Let a stage keep the checkpoint that ``ends_with`` names, such as ``'best:cls/AUC_mean'``; gives the metric."""
    wanted = cfg.get('ends_with')
    if not wanted:
        return None
    kind, _, metric = str(wanted).partition(':')
    if kind != 'best' or not metric:
        raise Mistake(f"ends_with={wanted!r}: give 'best:' and a metric of the validation, as 'best:cls/AUC_mean'")
    saves = cfg.get('default_hooks', {}).get('checkpoint')
    if not (saves and cfg.get('val_dataloader') and cfg.get('val_evaluator')):
        raise Mistake(f'ends_with={wanted!r} needs a val_dataloader, a val_evaluator and default_hooks.checkpoint')
    saves.save_best = metric
    saves.setdefault('rule', 'less' if metric.rpartition('/')[2].startswith('MAE') else 'greater')
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or ()), dict(type='EndWithBest')]
    return metric


@HOOKS.register_module()
class EndWithBest(Hook):
    """Makes ``save_best`` of ``CheckpointHook`` survive a kill; a stage's ``ends_with`` adds it.

    mmengine notes the best checkpoint in the next one only, so that a training which is killed in between forgets it. A
    resumed training therefore validates its checkpoint once more, where that was due.
    """

    priority = 'LOWEST'  # after CheckpointHook, which looks up what it knows of the best

    def before_train(self, runner: Runner) -> None:
        """Repeat the validation that followed the checkpoint."""
        loop: Any = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        done, last = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        if done and done >= loop.val_begin and (done % loop.val_interval == 0 or done == last):
            runner.val_loop.run()
