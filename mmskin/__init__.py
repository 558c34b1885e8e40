"""mmskin: multi-task analysis of dermoscopic images on MMEngine."""

import os

TYPE_CHECKING = False  # as typing has it, whose import would be most of this one's time
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

# libraries that would report their use to their makers, or ask for news, as they are imported
for _setting in ('ORT_DISABLE_TELEMETRY', 'MLFLOW_DISABLE_TELEMETRY', 'NO_ALBUMENTATIONS_UPDATE'):
    os.environ.setdefault(_setting, '1')


def __getattr__(name: str) -> object:
    """Import what is asked for: `import mmskin` alone loads neither torch nor OpenCV."""
    if name in HOMES:
        from importlib import import_module

        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
