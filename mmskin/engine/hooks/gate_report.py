"""What each route does, in the log of a training."""

from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmskin.models.multitask import MultiTaskModel
from mmskin.models.routes import RouteReading, join_readings, read_routes
from mmskin.models.watch import unwrap
from mmskin.registry import HOOKS

__all__ = ['GateReport']


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
        """Say what was found, before ``LoggerHook`` collects the scalars."""
        self._say(runner, 'val')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Look at the last batch of an epoch if there is no validation, and say what was found."""
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
