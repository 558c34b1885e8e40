"""What a program calls to predict. Nothing is imported before it is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmskin.apis.inferencer import LesionInferencer
    from mmskin.apis.prediction import FailedImage, LesionPrediction

__all__ = ['FailedImage', 'LesionInferencer', 'LesionPrediction']

HOMES = {'LesionInferencer': 'inferencer', 'LesionPrediction': 'prediction', 'FailedImage': 'prediction'}


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(import_module(f'{__name__}.{HOMES[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
