"""Numbers and pictures as plain files."""

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.visualization import LocalVisBackend as Upstream

from mmskin.registry import VISBACKENDS

__all__ = ['LocalVisBackend']


@VISBACKENDS.register_module()
class LocalVisBackend(Upstream):
    """mmengine's, which writes ``scalars.json``, ``config.py`` and ``vis_image/*.png``.

    A picture may have a folder in its name, as TensorBoard groups them; mmengine's loses such a picture.
    """

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Write ``image`` (H, W, 3), RGB, as ``vis_image/<name>_<step>.png``."""
        folder = self.experiment._img_save_dir  # only now is its place known
        (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
        super().add_image(name, image, step)
