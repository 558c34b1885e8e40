"""Train a config, stage by stage: python tools/train.py configs/fpm/r101_isic2017.py, or mmskin train."""

import sys

from mmskin.cli import train
from mmskin.program import run_tool

if __name__ == '__main__':
    sys.exit(run_tool(train))
