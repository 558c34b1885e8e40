"""MMEngine's runner with a console that a person can follow."""

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MMLogger, print_log
from mmengine.registry import FUNCTIONS
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner
from mmengine.runner.checkpoint import _load_checkpoint
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mmskin.datasets.tar_stream import NO_LENGTH, StreamLoader
from mmskin.datasets.task_dataset import images_in, samples_of, seeded
from mmskin.datasets.transforms.loading import check_packed
from mmskin.engine.checkpoints import writing_whole
from mmskin.engine.hooks.finite_numbers import FiniteNumbers
from mmskin.engine.paramwise import check_paramwise
from mmskin.engine.resume import NOTE, continue_training
from mmskin.errors import Mistake, refusals
from mmskin.models.multitask import MultiTaskModel
from mmskin.models.tasks.task import Task
from mmskin.models.watch import unwrap
from mmskin.models.weights import check_order
from mmskin.registry import DATASETS, HOOKS, RUNNERS, described, is_of

NOISE = (
    'FileClient',
    'HardDiskBackend',
    'SyncBatchNorm',
    'Exp name: ',
    'Loads checkpoint by ',
)  # upstream's, on what no user chose

NUM_TRIED = 8  # images


@contextmanager
def refusals_in_log(name: str) -> Iterator[None]:
    """As ``refusals``, about a config that runs: the traceback goes to the log file, which the message names."""
    try:
        yield
    except Mistake:
        raise
    except Exception as error:
        text = ''.join(traceback.format_exception(error))
        for handler in MMLogger.get_current_instance().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handle(logging.makeLogRecord({'levelno': logging.ERROR, 'levelname': 'ERROR', 'msg': text}))
                name = f'{name} (traceback in {handler.baseFilename})'
        with refusals(name):
            raise


def is_for_console(record: logging.LogRecord) -> bool:
    """Whether ``record`` is no listing (environment, config, hooks) and none of upstream's advice to itself."""
    message = record.getMessage()
    if any(words in message for words in NOISE):
        return False
    return record.levelno >= logging.WARNING or '\n' not in message.strip()


@RUNNERS.register_module()
class LesionRunner(Runner):
    """A runner whose console has one line per event; the log file in the work folder has everything."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """MMEngine's logger, with the filter on its console; the file of an earlier run in this process is closed."""
        earlier = MMLogger.get_current_instance()
        for handler in [*earlier.handlers]:
            if isinstance(handler, logging.FileHandler):
                earlier.removeHandler(handler)
                handler.close()
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(is_for_console)
        return logger

    def register_hooks(self, default_hooks: Any = None, custom_hooks: Any = None) -> None:
        """MMEngine's way, with ``FiniteNumbers`` in every run, and without hooks of trainings in a test.

        A network that passes features has ``GateReport`` in its trainings.

        A hook is of trainings if it has methods for trainings or validations, and none for tests.
        """
        super().register_hooks(default_hooks, custom_hooks)
        if not any(isinstance(hook, FiniteNumbers) for hook in self.hooks):
            self.register_hook(FiniteNumbers())
        if self._train_loop is None:
            pairs = [(hook, ' '.join(hook.get_triggered_stages())) for hook in self.hooks]
            self._hooks: list[Hook] = [
                hook for hook, stages in pairs if 'test' in stages or not ('train' in stages or 'val' in stages)
            ]
            return
        reported = any(isinstance(hook, HOOKS.get('GateReport')) for hook in self.hooks)
        if isinstance(model := unwrap(self.model), MultiTaskModel) and model.routes() and not reported:
            self.register_hook({'type': 'GateReport'})

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """MMEngine's way; what it would print of the loader's function is for the log file."""
        with patch('mmengine.runner.runner._load_checkpoint', partial(_load_checkpoint, logger='current')):
            checkpoint = super().load_checkpoint(*args, **kwargs)
        trained, named = (checkpoint.get('meta') or {}).get('dataset_meta'), self._trained_metainfo()
        if isinstance(trained, Mapping) and len(trained.get('classes') or ()) == len(named.get('classes') or ()):
            check_order(trained, named, f'{args[0]}: was trained', 'the training set')
        return checkpoint

    def _trained_metainfo(self) -> Mapping[str, Any]:
        """What the training set says of itself, such as the names of its classes; nothing without one."""
        loop = self._train_loop
        return getattr(loop.dataloader.dataset, 'metainfo', {}) if isinstance(loop, BaseLoop) else {}

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """MMEngine's way, but for the file itself; see ``write_checkpoint``."""
        with writing_whole():
            super().save_checkpoint(*args, **kwargs)

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str | Callable = 'default',
    ) -> None:
        """Go on from a checkpoint of this training, by the config's own schedule; see ``continue_training``."""
        checkpoint = self.load_checkpoint(filename, get_device() if map_location == 'default' else map_location)
        if self._randomness_cfg.get('seed') is None and checkpoint['meta'].get('seed') is not None:
            self._randomness_cfg['seed'] = checkpoint['meta']['seed']
            self.set_randomness(**self._randomness_cfg)
        continue_training(self, checkpoint, filename)
        self._has_loaded = True
        self.logger.info(f'resumed epoch: {self.epoch}, iter: {self.iter}')

    def load_or_resume(self) -> None:
        """MMEngine's way; only now is it sure that what the config says is what is done.

        A test in the folder of a training leaves its config there alone.
        """
        super().load_or_resume()
        if self._train_loop is not None or not Path(self.work_dir, NOTE).is_file():
            super().dump_config()

    def dump_config(self) -> None:
        """Not as the runner is built, which may yet be refused: see ``load_or_resume``."""

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """MMEngine's way; one that the config gives no type is a ``NumbersEvaluator``."""
        if isinstance(evaluator, list) or (isinstance(evaluator, Mapping) and 'metrics' not in evaluator):
            evaluator = {'metrics': evaluator}
        if isinstance(evaluator, Mapping):
            evaluator = {'type': 'NumbersEvaluator', **evaluator}
        return super().build_evaluator(evaluator)

    def build_train_loop(self, loop: Any) -> BaseLoop:
        """MMEngine's loop, through the registry also where the config names no type; likewise the other two.

        What the data tell in addition to the images is read before the first step, and the network's fusions count it.
        """
        refuse_no_length(loop if isinstance(loop, Mapping) else {})
        if isinstance(loop, Mapping) and 'type' not in loop:
            epochs = loop.get('by_epoch', 'max_iters' not in loop)
            options = {key: value for key, value in loop.items() if key != 'by_epoch'}
            loop = {'type': 'EpochBasedTrainLoop' if epochs else 'IterBasedTrainLoop', **options}
        built = super().build_train_loop(loop)
        if isinstance(built, IterBasedTrainLoop) and isinstance(built.dataloader.dataset, IterableDataset):
            built.dataloader.length = built.max_iters
        return self._reading_inputs(built, for_training=True)

    def build_val_loop(self, loop: Any) -> BaseLoop:
        loop = {'type': 'ValLoop', **loop} if isinstance(loop, Mapping) else loop
        built = super().build_val_loop(loop)
        named = getattr(built.dataloader.dataset, 'metainfo', {})
        check_order(self._trained_metainfo(), named, 'the network is trained', 'val_dataloader', exactly=True)
        if isinstance(self._train_loop, BaseLoop):  # whose training set may lack its ``split``
            validated = {*images_in(built.dataloader.dataset)}
            if shared := validated.intersection(images_in(self._train_loop.dataloader.dataset)):
                text = (
                    f'{len(shared)} of the {len(validated)} images of val_dataloader are trained on, such as '
                    f'{min(shared)[0]}: its metrics say little of other images; look at split, or exclude'
                )
                print_log(text, logger='current', level=logging.WARNING)
        return self._reading_inputs(built)

    def build_test_loop(self, loop: Any) -> BaseLoop:
        loop = {'type': 'TestLoop', **loop} if isinstance(loop, Mapping) else loop
        return self._reading_inputs(super().build_test_loop(loop))

    def _reading_inputs(self, loop: BaseLoop, for_training: bool = False) -> BaseLoop:
        """The loop, after a look at all inputs next to its images, which the fusions count in training."""
        is_endless = isinstance(loop.dataloader.dataset, IterableDataset)
        if is_endless and not isinstance(loop, IterBasedTrainLoop):
            raise Mistake(f'{type(loop).__name__} goes through all images: {NO_LENGTH}')
        if isinstance(loop.dataloader.sampler, InfiniteSampler) and not isinstance(loop, IterBasedTrainLoop):
            raise Mistake(
                f'{type(loop).__name__} goes through all images, and InfiniteSampler never ends; take DefaultSampler, '
                'or train by iterations: train_cfg=dict(by_epoch=False, max_iters=...)'
            )
        model = unwrap(self.model)
        if for_training and isinstance(model, MultiTaskModel) and not is_endless:
            refuse_unlabelled(model, loop.dataloader.dataset)
        if not isinstance(model, MultiTaskModel) or not model.inputs:
            return loop
        if is_endless:
            raise Mistake(
                f'model.inputs: {" and ".join(model.inputs)} of all images are counted before a training, and a stream '
                'has no end; leave model.inputs out, or train on a data set'
            )
        known = set()
        for sample in samples_of(loop.dataloader.dataset):
            for name in model.inputs.keys() & sample.get('inputs', {}).keys():
                model.inputs[name].read(sample['inputs'][name], sample['inputs_from'][name])
                known.add(name)
        if not for_training:
            return loop
        if missing := sorted(model.inputs.keys() - known):
            raise Mistake(
                f'no image of the training set has {" or ".join(missing)}, which model.inputs names; name the column, '
                f'as train_dataloader.dataset.inputs=dict({missing[0]}=...), or leave it out of model.inputs'
            )
        model.fit_inputs(samples_of(loop.dataloader.dataset))
        return loop

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """MMEngine's way, after a look at the options for single parameters; see ``check_paramwise``."""
        if not any(weight.requires_grad for weight in self.model.parameters()):
            raise Mistake('no part of the network is trained; leave one out of model.frozen')
        check_paramwise(optim_wrapper, self.model)
        clip: Any = optim_wrapper.get('clip_grad') if isinstance(optim_wrapper, Mapping) else None
        for name in ('max_norm', 'clip_value'):  # below 0, torch would turn the gradients round
            value = clip.get(name, 1) if isinstance(clip, Mapping) else 1
            if not isinstance(value, Real) or not float(value) > 0:  # infinity only measures
                raise Mistake(f'optim_wrapper.clip_grad.{name}={value!r}; give a number above 0')
        counts = optim_wrapper.get('accumulative_counts', 1) if isinstance(optim_wrapper, Mapping) else 1
        if not is_of(counts, int) or counts < 1:
            raise Mistake(f'optim_wrapper.accumulative_counts={counts!r}; give a whole number from 1')
        return super().build_optim_wrapper(optim_wrapper)

    @staticmethod
    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> DataLoader:
        """MMEngine's loader, which gives batches.

        With ``num_workers=0``, as one debugs, what is about workers is left out.
        """
        for name in ('batch_size', 'num_workers') if isinstance(dataloader, Mapping) else ():
            if not is_of(dataloader.get(name, 0), int):
                raise Mistake(f'{name}={dataloader[name]!r} of a loader; give a whole number')
        for name in ('sampler', 'batch_sampler') if isinstance(dataloader, Mapping) else ():
            if isinstance(dataloader.get(name), str | Real | Sequence):  # of text, torch would take each letter
                raise Mistake(f'{name}={dataloader[name]!r} of a loader; give a dict')
        if isinstance(dataloader, Mapping) and dataloader.get('num_workers') == 0:
            of_workers = [name for name in ('persistent_workers', 'prefetch_factor') if dataloader.get(name)]
            dataloader = {key: value for key, value in dataloader.items() if key not in of_workers}
            if of_workers:
                print_log(f'num_workers=0: {" and ".join(of_workers)} left out', 'current')
        with refusals(described('loader', dataloader)):
            dataset: Any = dataloader.get('dataset') if isinstance(dataloader, Mapping) else None
            kind = dataset.get('type') if isinstance(dataset, Mapping) else None
            kind = DATASETS.get(kind) if isinstance(kind, str) else kind
            if isinstance(kind, type) and issubclass(kind, IterableDataset):  # a data set without a length
                needless = [
                    name for name in ('sampler', 'batch_sampler', 'num_batch_per_epoch') if dataloader.get(name)
                ]
                if needless:
                    raise Mistake(f'{needless[0]} of a loader: {NO_LENGTH}')
                left_out = ('dataset', 'sampler', 'collate_fn')
                options = {key: value for key, value in dataloader.items() if key not in left_out}
                collate = dict(dataloader.get('collate_fn') or {'type': 'pseudo_collate'})
                function = collate.pop('type')
                function = FUNCTIONS.get(function) if isinstance(function, str) else function
                return StreamLoader(DATASETS.build(dict(dataset)), collate_fn=partial(function, **collate), **options)
            loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        if not len(loader):
            raise Mistake(
                f'{len(loader.dataset)} images do not fill a batch of {loader.batch_size}, and a batch that is not '
                'full is left out (drop_last); give a smaller batch_size'
            )
        return loader


def refuse_unlabelled(model: MultiTaskModel, dataset: Dataset) -> None:
    """Raise a ``Mistake`` if a task is to learn, and no image of the training set has its label.

    Labels that steps of a pipeline make are looked for in the first images.
    """
    for name in model.active_tasks:
        target = cast(Task, model.tasks[name]).target
        fields = {target, 'seg_map_path'} if target == 'gt_sem_seg' else {target}
        learns = any(weight.requires_grad for weight in model.tasks[name].parameters())
        if not learns or any(
            fields & (sample.keys() | sample.get('mask_paths', {}).keys()) for sample in samples_of(dataset)
        ):
            continue
        with seeded(0):
            packed = [check_packed(dataset[index]) for index in range(min(len(cast(Sized, dataset)), NUM_TRIED))]
        if not any(target in results['data_samples'] for results in packed):
            raise Mistake(
                f'no image of the training set has {target}, from which the task {name} learns; name its column or '
                'masks in train_dataloader.dataset, or leave the task out of model.active_tasks'
            )


@HOOKS.register_module()
class ChannelsLast(Hook):
    """Keep the model's weights in channels-last order; its convolutions then give their maps in it, too.

    https://docs.pytorch.org/tutorials/intermediate/memory_format_tutorial.html
    """

    priority = 'VERY_HIGH'  # before EMAHook copies the model

    def before_run(self, runner: Runner) -> None:
        """Convert the model before training or testing starts."""
        runner.model.to(memory_format=torch.channels_last)


def refuse_no_length(train_cfg: Mapping[str, Any]) -> None:
    """Raise a ``Mistake`` at a length of a training that is no whole number from 1."""
    for name in ('max_epochs', 'max_iters', 'val_interval'):
        value = train_cfg.get(name, 1)
        if not isinstance(value, int) or value < 1:
            raise Mistake(f'train_cfg.{name}={value!r}; give a whole number from 1')
