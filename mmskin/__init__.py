"""mmskin: multi-task analysis of dermoscopic images on MMEngine."""

__version__ = '0.1.0'

__all__ = ['__version__']
