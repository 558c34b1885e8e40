"""Numbers and pictures in MLflow."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.visualization import MLflowVisBackend as Upstream

from mmskin.engine.tracking.run import read_id, run_name, write_id
from mmskin.optional import needs
from mmskin.registry import VISBACKENDS

__all__ = ['MLflowVisBackend']


@VISBACKENDS.register_module()
class MLflowVisBackend(Upstream):
    """mmengine's, with pictures that keep their step and a run that a resumed training goes on in.

    Without ``tracking_uri`` it logs where MLflow itself would (``MLFLOW_TRACKING_URI``, or a file in the folder one is
    in); without ``exp_name`` into ``MLFLOW_EXPERIMENT_NAME`` or ``mmskin``. The run is called as its work folder.

    Raises:
        ModuleNotFoundError: at its first use, if MLflow is not installed.
        ConnectionError: likewise, if no server answers.
    """

    _run_name: str | None

    def _init_env(self) -> None:
        self._mlflow = needs('mlflow', 'mlflow')
        Path(self._save_dir).mkdir(parents=True, exist_ok=True)
        os.environ.setdefault('MLFLOW_HTTP_REQUEST_MAX_RETRIES', '3')  # its own 7 hold a training up for minutes
        if self._tracking_uri:
            self._mlflow.set_tracking_uri(self._tracking_uri)
        self._choose_experiment(self._exp_name or os.environ.get('MLFLOW_EXPERIMENT_NAME', 'mmskin'))
        self._mlflow.end_run('FAILED')  # of a training that broke off in this process
        run = self._mlflow.start_run(read_id(self._save_dir, 'mlflow'), run_name=self._run_name, tags=self._tags)
        write_id(self._save_dir, 'mlflow', run.info.run_id)
        self._mlflow.log_params(self._params or {})

    def _choose_experiment(self, name: str) -> None:
        try:
            if self._artifact_location and self._mlflow.get_experiment_by_name(name) is None:
                self._mlflow.create_experiment(name, artifact_location=self._artifact_location)
            self._mlflow.set_experiment(name)
        except self._mlflow.MlflowException as error:
            raise ConnectionError(
                f'{self._mlflow.get_tracking_uri()}: MLflow takes no runs there ({error}); start "mlflow server", '
                'or name another address in tracking_uri or MLFLOW_TRACKING_URI'
            ) from error

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Log the config as parameters and as a file; a run that is gone on with has it already."""
        self.cfg = config
        self._run_name = self._run_name or run_name(config)
        if read_id(self._save_dir, 'mlflow') is None:
            super().add_config(config)
        else:
            _ = self.experiment  # its first use connects, and finds an address that is wrong

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Log ``image`` (H, W, 3), RGB, as one of a series over the steps."""
        try:
            self.experiment.log_image(image, key=name, step=step, synchronous=True)
        except self._mlflow.MlflowException as error:  # as mmengine's takes a number that is refused
            print_log(f'{name} could not be logged to MLflow: {error}', level=logging.WARNING)
