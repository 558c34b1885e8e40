"""Stopping at numbers that are not numbers."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from mmskin.engine.checkpoints import noted_checkpoints
from mmskin.errors import Mistake
from mmskin.models.watch import unwrap
from mmskin.registry import HOOKS
from mmskin.structures import TaskSample, not_finite

STATISTICS = ('running_mean', 'running_var')


@HOOKS.register_module()
class FiniteNumbers(Hook):
    """Stops a training at the first loss, and a validation or test at the first answer, that is nan or infinite.

    Every run has it. Losses are looked at as the network gives them, before anything is learnt from them: each batch of
    an accumulated gradient, each pass of an optimizer wrapper that takes several. In distributed training all processes
    stop if one has to. A checkpoint with a weight that is not finite is not written, so the last one on disk is good.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.images: list[str] = []  # of the batch that was looked at last
        self.has_looked = False

    def before_train(self, runner: Runner) -> None:
        """Look at all that the network gives as its losses from now on."""

        def look(model: nn.Module, args: tuple, options: dict[str, Any], answer: Any) -> None:
            given = dict(zip(('inputs', 'data_samples', 'mode'), args, strict=False)) | options
            if given.get('mode') == 'loss' and isinstance(answer, Mapping):
                self.judge(runner, answer, given.get('data_samples'))
                self.has_looked = True

        runner.model.register_forward_hook(look, with_kwargs=True)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Refuse a learning rate below 0, at which losses rise, or one that is no number."""
        for rates in runner.optim_wrapper.get_lr().values():
            if wrong := [rate for rate in rates if isinstance(rate, float) and not 0 <= rate < math.inf]:
                raise Mistake(
                    f'{place(runner, runner.iter + 1)}: the learning rate is {wrong[0]:g}; look at param_scheduler'
                )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Look at what was logged, if the model came to it in a way of its own."""
        if not self.has_looked and outputs:
            self.judge(runner, outputs, data_batch.get('data_samples') if isinstance(data_batch, Mapping) else None)
        self.has_looked = False

    def judge(self, runner: Runner, losses: Mapping[str, Any], samples: Sequence[Any] | None) -> None:
        """Raise a ``Mistake`` in every process if any of the losses is not finite in any process."""
        earlier, self.images = self.images, [str(getattr(sample, 'image_id', '?')) for sample in samples or ()]
        wrong = not_finite({name: value for name, value in losses.items() if 'loss' in name})
        count = torch.tensor(len(wrong), device=next(runner.model.parameters()).device)
        all_reduce(count)
        if not count:
            return
        gathered = all_gather_object((wrong, earlier, self.images))
        names = dict.fromkeys(name for wrong, _, _ in gathered for name in wrong)
        text = f'the loss {" and ".join([name for name in names if not name.startswith("loss ")] or names)}'
        parameters = {name for name, _ in unwrap(runner.model).named_parameters()}  # statistics are this batch's, too
        if broken := [name for name in weights_not_finite(runner.model) if name in parameters]:
            images = [image for _, earlier, _ in gathered for image in earlier]
            text = f'{text}, since the step before, whose images are named, left {broken[0]} not finite'
        else:
            images = [image for wrong, _, images in gathered if wrong for image in images]
        raise Mistake(
            f'{place(runner, runner.iter + 1)}: {text} (images: {", ".join(images) or "unknown"}); '
            f'{last_good(runner)}. Look at these images, or lower the learning rate'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save weights that are not finite, which the next step's losses would tell too late."""
        if broken := weights_not_finite(runner.model):
            raise Mistake(
                f'{place(runner, runner.iter)}: {broken[0]} is not finite after the last step '
                f'(images: {", ".join(self.images) or "unknown"}), and is not saved; {last_good(runner)}. '
                'Look at these images, or lower the learning rate'
            )

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Look at the answers of a validation or a test."""
        for sample in outputs if isinstance(outputs, Sequence) else ():
            if isinstance(sample, TaskSample) and (wrong := not_finite(sample.predictions)):
                raise Mistake(
                    f'{sample.get("img_path") or sample.image_id}: the answer of the network is not finite '
                    f'({" and ".join(wrong)}); use other weights'
                )

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Look for the numbers that other hooks follow, before they do."""
        refuse_missing(runner, metrics or {})


def place(runner: Runner, iteration: int) -> str:
    """Stage, epoch and iteration, counted from 1 as the log does."""
    stage = [f'stage {runner.cfg.stage}'] if runner.cfg.get('stage') else []
    epoch = [f'epoch {runner.epoch + 1}'] if isinstance(runner.train_loop, EpochBasedTrainLoop) else []
    return ', '.join([*stage, *epoch, f'iteration {iteration}'])


def followed(runner: Runner) -> list[tuple[str, str]]:
    """The metrics by which hooks choose a checkpoint or stop a training, each with its hook."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook | EarlyStoppingHook)]
    pairs = [(hook, getattr(hook, 'save_best', None) or [getattr(hook, 'monitor', 'auto')]) for hook in hooks]
    return [(name, type(hook).__name__) for hook, names in pairs for name in names if name != 'auto']


def refuse_missing(runner: Runner, metrics: Collection[str], unknown: tuple[str, ...] = ()) -> None:
    """Raise a ``Mistake`` if one of those ``followed`` is not among the ``metrics``, nor begins as an ``unknown``."""
    for name, hook in followed(runner):
        if name not in metrics and not name.startswith(unknown):
            raise Mistake(f'{hook}: the validation gives no {name!r}; it gives {", ".join(sorted(metrics)) or "none"}')


def last_good(runner: Runner) -> str:
    """Where one can continue from."""
    if saved := noted_checkpoints(runner.work_dir):
        return f'the last good checkpoint is {saved[0]}'
    return f'no checkpoint is there yet{f", and the start was {runner._load_from}" if runner._load_from else ""}'


def weights_not_finite(model: nn.Module) -> list[str]:
    """Names of parameters, and of what batch norm keeps."""
    model = unwrap(model)
    statistics = [(name, value) for name, value in model.named_buffers() if name.endswith(STATISTICS)]
    return [name for name, value in [*model.named_parameters(), *statistics] if not value.isfinite().all()]
