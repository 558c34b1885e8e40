"""Compare methods over seeds: python tools/benchmark.py suites/quick.py, or mmskin benchmark."""

import sys

from mmskin.cli import benchmark
from mmskin.program import run_tool

if __name__ == '__main__':
    sys.exit(run_tool(benchmark))
