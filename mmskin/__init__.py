"""mmskin: multi-task analysis of dermoscopic images on MMEngine."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmskin.inference.inferencer import LesionInferencer
    from mmskin.inference.prediction import FailedImage, LesionPrediction

__version__ = '0.1.0'

__all__ = ['FailedImage', 'LesionInferencer', 'LesionPrediction', '__version__']

HOMES = {
    'FailedImage': 'mmskin.inference.prediction',
    'LesionInferencer': 'mmskin.inference.inferencer',
    'LesionPrediction': 'mmskin.inference.prediction',
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: `import mmskin` alone loads neither torch nor OpenCV."""
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
