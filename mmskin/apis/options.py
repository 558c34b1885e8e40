"""Settings that the command line changes."""

import argparse
from typing import Any

from mmengine.config import DictAction

__all__ = ['SettingsAction']


class SettingsAction(DictAction):
    """``--cfg-options name=value ...`` as a dict, as mmengine reads it; a mistake is answered as argparse does."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Add the settings to the namespace."""
        if wrong := [value for value in values if '=' not in value]:
            parser.error(f'argument {option_string}: {wrong[0]!r} is not of the form name=value')
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:  # a bracket too many or too few
            parser.error(f'argument {option_string}: {error}')
