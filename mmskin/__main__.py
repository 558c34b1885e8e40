"""``python -m mmskin`` is the command ``mmskin``."""

import sys

from mmskin.cli import main

if __name__ == '__main__':
    sys.exit(main())
