"""Where a training's numbers and pictures go: mmengine's backends, fixed where they fall short."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import hooks
from mmengine import visualization as upstream
from mmengine.config import Config
from mmengine.logging import print_log

from mmskin.errors import Mistake, needs
from mmskin.files import finite, write_text
from mmskin.registry import HOOKS, VISBACKENDS


def run_name(cfg: Config) -> str:
    """The work folder's name, and after it the stage's if there are several: ``lite0_isic2017/joint``."""
    parts = Path(cfg.work_dir).resolve().parts
    return '/'.join(parts[-2:] if cfg.get('stage') else parts[-1:])


def read_id(save_dir: str, service: str) -> str | None:
    """The id under which ``service`` knows the run that logs into ``save_dir``; None for a new run."""
    note = Path(save_dir) / f'{service}_run_id'
    return note.read_text().strip() if note.is_file() else None


@VISBACKENDS.register_module()
class LocalVisBackend(upstream.LocalVisBackend):
    """mmengine's, which writes ``scalars.json``, ``config.py`` and ``vis_image/*.png``.

    A picture may have a folder in its name, as TensorBoard groups them; mmengine's loses such a picture.
    """

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Write ``image`` (H, W, 3), RGB, as ``vis_image/<name>_<step>.png``."""
        folder = self.experiment._img_save_dir  # only now is its place known
        (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
        super().add_image(name, image, step)

    def _dump(self, value_dict: dict, file_path: str, file_format: str) -> None:
        """Write a line of JSON that has null in place of nan."""
        super()._dump(finite(value_dict), file_path, file_format)


@HOOKS.register_module()
class LoggerHook(hooks.LoggerHook):
    """mmengine's, whose JSON of a test has null in place of nan."""

    @staticmethod
    def _process_tags(tags: dict) -> dict:
        return finite(hooks.LoggerHook._process_tags(tags))


@VISBACKENDS.register_module()
class MLflowVisBackend(upstream.MLflowVisBackend):
    """mmengine's, with pictures that keep their step and a run that a resumed training continues in.

    Without ``tracking_uri`` it logs where MLflow itself would (``MLFLOW_TRACKING_URI``, or a file in the folder one is
    in); without ``exp_name`` into ``MLFLOW_EXPERIMENT_NAME`` or ``mmskin``. The run is called as its work folder.

    Raises:
        ModuleNotFoundError: at its first use, if MLflow is not installed.
        Mistake: likewise, if no server answers.
    """

    _run_name: str | None

    def _init_env(self) -> None:
        self._mlflow = needs('mlflow', 'mlflow')
        Path(self._save_dir).mkdir(parents=True, exist_ok=True)
        os.environ.setdefault('MLFLOW_HTTP_REQUEST_MAX_RETRIES', '3')  # its own 7 hold a training up for minutes
        if self._tracking_uri:
            self._mlflow.set_tracking_uri(self._tracking_uri)
        known = read_id(self._save_dir, 'mlflow')
        try:
            name = self._exp_name or os.environ.get('MLFLOW_EXPERIMENT_NAME', 'mmskin')
            if self._artifact_location and self._mlflow.get_experiment_by_name(name) is None:
                self._mlflow.create_experiment(name, artifact_location=self._artifact_location)
            self._mlflow.set_experiment(name)
            self._mlflow.end_run('FAILED')  # of a training that broke off in this process
            run = self._mlflow.start_run(known, run_name=self._run_name, tags=self._tags)
            self._mlflow.log_params(self._params or {})
        except self._mlflow.MlflowException as error:
            forget = f', or remove {self._save_dir}/mlflow_run_id, which names the run to go on with' if known else ''
            raise Mistake(
                f'{self._mlflow.get_tracking_uri()}: MLflow takes no runs there ({error}); start "mlflow server", '
                f'or name another address in tracking_uri or MLFLOW_TRACKING_URI{forget}'
            ) from error
        write_text(Path(self._save_dir) / 'mlflow_run_id', run.info.run_id)  # for a training that resumes this one

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Log the config as parameters and as a file; a run that continues has it already."""
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


STEP = 'iter'  # W&B counts calls where nothing else is said


@VISBACKENDS.register_module()
class WandbVisBackend(upstream.WandbVisBackend):
    """mmengine's, over the training's own steps, and with a run that a resumed training continues in.

    ``init_kwargs`` are ``wandb.init``'s. Without a project there, it is ``WANDB_PROJECT`` or ``mmskin``; the run is
    called as its work folder, and a training's stages are a group. No source code is sent, as mmengine's would be.
    """

    _init_kwargs: dict | None
    _define_metric_cfg: dict | list | None

    def _init_env(self) -> None:
        wandb = needs('wandb', 'wandb')
        known = {'id': read_id(self._save_dir, 'wandb'), 'resume': 'allow'}
        self._init_kwargs = {**known, **(self._init_kwargs or {})}
        if self._define_metric_cfg is None:
            self._define_metric_cfg = [{'name': STEP}, {'name': '*', 'step_metric': STEP}]
        try:
            super()._init_env()
        except wandb.errors.Error as error:
            raise Mistake(f'W&B takes no runs ({error}); "wandb login", or set WANDB_MODE=offline') from error
        write_text(Path(self._save_dir) / 'wandb_run_id', self._wandb.run.id)

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Name the run and log the config."""
        name = run_name(config)
        names = {'project': os.environ.get('WANDB_PROJECT', 'mmskin'), 'name': name, 'group': name.split('/')[0]}
        self._init_kwargs = {**names, **(self._init_kwargs or {})}
        self.experiment.config.update(config.to_dict(), allow_val_change=True)

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Log ``image`` (H, W, 3), RGB."""
        self.add_scalars({name: self.experiment.Image(image)}, step)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Log one number."""
        self.add_scalars({name: value}, step)

    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        """Log numbers by name."""
        self.experiment.log({**scalar_dict, STEP: step}, commit=self._commit)
