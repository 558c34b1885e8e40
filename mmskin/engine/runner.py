"""MMEngine's runner with a console that a person can follow."""

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmskin.registry import RUNNERS

__all__ = ['LesionRunner']


class OneLiners(logging.Filter):
    """Keeps listings (environment, config, hooks) and upstream's advice to itself off the console."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` is shown: all warnings but mmengine's own about its ``FileClient``."""
        message = record.getMessage()
        return 'FileClient' not in message and (record.levelno >= logging.WARNING or '\n' not in message.strip())


@RUNNERS.register_module()
class LesionRunner(Runner):
    """A runner whose console has one line per event; the log file in the work folder has everything."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """MMEngine's logger, with the filter on its console."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(OneLiners())
        return logger

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader:
        """MMEngine's loader, which gives batches.

        Raises:
            ValueError: if its images do not fill one.
        """
        loader = Runner.build_dataloader(*args, **kwargs)
        if not len(loader):
            raise ValueError(
                f'{len(loader.dataset)} images do not fill a batch of {loader.batch_size}, and a batch that is not '
                'full is left out (drop_last); give a smaller batch_size'
            )
        return loader
