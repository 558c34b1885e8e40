"""Test a checkpoint: python tools/test.py configs/fpm/r101_isic2017.py work_dirs/r101_isic2017, or mmskin test."""

import sys

from mmskin.cli import test
from mmskin.program import run_tool

if __name__ == '__main__':
    sys.exit(run_tool(test))
