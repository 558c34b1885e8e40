"""What the gates let through, image by image."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmskin.errors import Mistake
from mmskin.models.multitask import MultiTaskModel
from mmskin.models.watch import unwrap
from mmskin.registry import HOOKS

__all__ = ['GateRecorder']


@HOOKS.register_module()
class GateRecorder(Hook):
    """Runs each test image through ``MultiTaskModel.gates`` and writes the means over channels as ``.npz``.

    ``image_id`` (N,), ``img_path`` (N,), and for each block and route, named ``blocks.4.2/cls2seg``, the
    maps (N, h, w) in float16: some 400 bytes an image and route. For one process.

    Args:
        out_file: the ``.npz`` file.

    Raises:
        Mistake: before a test in several processes; after a test, if no operator of the network has gates.
    """

    def __init__(self, out_file: str = 'gates.npz') -> None:
        self.out_file = Path(out_file)
        self.maps: dict[str, list[np.ndarray]] = {}
        self.images: list[tuple[str, str]] = []

    def before_test(self, runner: Runner) -> None:
        """Make sure that this process sees all images."""
        if runner.world_size > 1:
            raise Mistake('GateRecorder keeps the maps of one process: test this network in one.')

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Keep the maps of a batch."""
        model = cast(MultiTaskModel, unwrap(runner.model))
        inputs = model.data_preprocessor(data_batch, False)['inputs']
        for site, routes in model.gates(inputs).items():
            for route, rates in routes.items():
                self.maps.setdefault(f'{site}/{route}', []).append(mean_map(rates))
        self.images += [(sample.image_id, sample.img_path) for sample in data_batch['data_samples']]

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the file."""
        if not self.maps:
            raise Mistake('no operator of this network has gates: it has no passing, or one that passes everything')
        image_ids, paths = zip(*self.images, strict=True)
        self.out_file.parent.mkdir(parents=True, exist_ok=True)
        maps = {name: np.concatenate(batches) for name, batches in self.maps.items()}
        maps |= {'image_id': np.array(image_ids), 'img_path': np.array(paths)}
        np.savez_compressed(self.out_file, **maps)  # type: ignore[arg-type]


def mean_map(rates: Tensor) -> np.ndarray:
    """Rates (N, C or 1, h or 1, w or 1) as their mean over channels (N, h, w)."""
    return rates.float().mean(dim=1).to(torch.float16).cpu().numpy()
