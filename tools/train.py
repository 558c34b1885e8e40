"""Train a config, stage by stage: python tools/train.py configs/fpm/r101_isic2017.py, or mmskin train."""

import sys

from mmskin.cli import run_tool, train

if __name__ == '__main__':
    sys.exit(run_tool(train))
