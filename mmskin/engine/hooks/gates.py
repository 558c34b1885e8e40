"""Gates while a network trains: how open they are, how they vary, and what closing a route does."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmskin.errors import Mistake
from mmskin.files import whole_file
from mmskin.models.averaging import networks_in
from mmskin.models.multitask import MultiTaskModel
from mmskin.models.routes import RouteReading, join_readings, read_routes
from mmskin.models.watch import unwrap
from mmskin.registry import HOOKS


@HOOKS.register_module()
class GateRecorder(Hook):
    """Reads what each route does to each test image, by ``read_routes``, and writes it as ``.npz``.

    ``image_id`` (N,), ``img_path`` (N,); for each block and route with a gate, named ``blocks.4.2/cls2seg``, the
    means over channels (N, h, w) in float16, some 400 bytes an image; and for each route ``closing/<route>/<task>``
    (N,), how far closing it moves the answer, with ``flips/<route>/<task>``, whether it changes the diagnosis. All is
    the plain view's, also where a test averages several. For one process.

    Args:
        out_file: the ``.npz`` file.

    Raises:
        Mistake: before a test in several processes, or of a network without routes.
    """

    def __init__(self, out_file: str = 'gates.npz') -> None:
        self.out_file = Path(out_file)
        self.readings: list[dict[str, RouteReading]] = []
        self.images: list[tuple[str, str]] = []

    def before_test(self, runner: Runner) -> None:
        """Make sure that there are routes, and that this process sees all images."""
        if runner.world_size > 1:
            raise Mistake('GateRecorder keeps the maps of one process: test this network in one')
        networks = networks_in(runner.model)
        if not any(network.routes() for network in networks):
            raise Mistake('this network passes no features: it has no routes with or without gates to look at')
        if len(networks) > 1:
            raise Mistake('this is an ensemble; look at one of its networks at a time')

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Keep the readings of a batch."""
        model = cast(MultiTaskModel, unwrap(runner.model))
        data = model.data_preprocessor(data_batch, False)
        self.readings.append(join_readings([read_routes(model, data['inputs'], data['data_samples'])]))
        self.images += [(sample.image_id, sample.img_path) for sample in data_batch['data_samples']]

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the file."""
        image_ids, paths = zip(*self.images, strict=True)
        arrays: dict[str, np.ndarray] = {'image_id': np.array(image_ids), 'img_path': np.array(paths)}
        for name, reading in join_readings(self.readings).items():
            if reading.gate is not None:
                arrays[name] = reading.gate.to(torch.float16).numpy()
            arrays |= {f'closing/{name}/{task}': values.numpy() for task, values in reading.closing.items()}
            arrays |= {f'flips/{name}/{task}': values.numpy() for task, values in reading.flips.items()}
        with whole_file(self.out_file) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


@HOOKS.register_module()
class GateReport(Hook):
    """Says after each validation how far each route's gate is open, how that varies by image, and what closing it does.

    A line a route, and the scalars ``val/routes/<route>/open``, ``.../open_sd`` and ``.../closing_<task>``. It looks at
    the first images of the validation; where there is none, at the last batch of each epoch of training, augmented as
    it is. ``LesionRunner`` adds it to every training of a network with feature passing. The numbers of validation and
    training stay what they are without it. In several processes it looks at the main one's images.

    Args:
        num_images: How many images of the validation, whole batches.
    """

    def __init__(self, num_images: int = 64) -> None:
        self.num_images = num_images
        self.readings: list[dict[str, RouteReading]] = []
        self.seen = 0

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Look at the batch, if there were too few so far."""
        if is_main_process() and self.seen < self.num_images:
            self._look(runner, data_batch)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Say it, before ``LoggerHook`` collects the scalars."""
        self._say(runner, 'val')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Look at the last batch of an epoch if there is no validation, and say it."""
        if runner.val_loop is None and is_main_process() and self.end_of_epoch(runner.train_dataloader, batch_idx):
            runner.model.eval()
            self._look(runner, data_batch)
            runner.model.train()
            self._say(runner, 'train')

    def _look(self, runner: Runner, batch: Any) -> None:
        model = unwrap(runner.model)
        if not isinstance(model, MultiTaskModel) or not model.routes():
            return
        data = model.data_preprocessor(batch, False)
        self.readings.append(read_routes(model, data['inputs'], data['data_samples']))
        self.seen += len(data['inputs'])

    def _say(self, runner: Runner, part: str) -> None:
        for name, reading in join_readings(self.readings).items():
            runner.logger.info(f'{name}, {self.seen} images: {reading}')
            scalars = {f'closing_{task}': values.mean() for task, values in reading.closing.items()}
            if reading.gate is not None:
                rates = reading.gate.float().mean(dim=(1, 2))
                scalars |= {'open': rates.mean(), 'open_sd': rates.std(correction=0)}
            for key, value in scalars.items():
                runner.message_hub.update_scalar(f'{part}/routes/{name}/{key}', float(value))
        self.readings, self.seen = [], 0
