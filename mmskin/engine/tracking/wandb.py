"""Numbers and pictures in Weights & Biases."""

import os
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.visualization import WandbVisBackend as Upstream

from mmskin.engine.tracking.run import read_id, run_name, write_id
from mmskin.optional import needs
from mmskin.registry import VISBACKENDS

__all__ = ['WandbVisBackend']

STEP = 'iter'  # W&B counts calls where nothing else is said


@VISBACKENDS.register_module()
class WandbVisBackend(Upstream):
    """mmengine's, over the training's own steps, and with a run that a resumed training goes on in.

    ``init_kwargs`` are ``wandb.init``'s. Without a project there, it is ``WANDB_PROJECT`` or ``mmskin``; the run is
    called as its work folder, and a training's stages are a group. No source code is sent, as mmengine's would be.
    """

    _init_kwargs: dict | None
    _define_metric_cfg: dict | list | None

    def _init_env(self) -> None:
        needs('wandb', 'wandb')
        known = {'id': read_id(self._save_dir, 'wandb'), 'resume': 'allow'}
        self._init_kwargs = {**known, **(self._init_kwargs or {})}
        if self._define_metric_cfg is None:
            self._define_metric_cfg = [{'name': STEP}, {'name': '*', 'step_metric': STEP}]
        super()._init_env()
        write_id(self._save_dir, 'wandb', self._wandb.run.id)

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
