"""Download, verify, unpack and check ISIC-2017: python tools/prepare_isic2017.py data/isic2017 --resize 256.

After an interruption, run it again: it continues where it stopped. --archives FOLDER uses the archives in a folder and
downloads the others to it. The report goes to preparation.txt in the data folder.
"""

import argparse
import sys

from mmskin.cli import run_tool
from mmskin.datasets.preparation.download import Patience
from mmskin.datasets.preparation.prepare import Settings, prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('out_dir', help='the data folder to create; takes 27 GB with the archives')
    parser.add_argument('--archives', metavar='FOLDER', help='folder of the archives (OUT_DIR/archives)')
    parser.add_argument('--offline', action='store_true', help='download nothing')
    parser.add_argument('--splits', nargs='+', choices=['train', 'val', 'test'], default=['train', 'val', 'test'])
    parser.add_argument('--mirror', action='append', default=[], metavar='URL', help='address to try first; repeatable')
    parser.add_argument(
        '--checksums', metavar='FILE', help="checksums as md5sum or sha256sum writes them; override mmskin's"
    )
    parser.add_argument('--resize', type=int, metavar='PIXELS', help='also write a copy for training, OUT_DIR_PIXELS')
    parser.add_argument('--timeout', type=float, default=30, help='seconds without a byte before a connection is reset')
    parser.add_argument('--attempts', type=int, default=8, help='failures in a row before an address is given up')
    parser.add_argument('--workers', type=int, help='threads for checking and resizing')


def run(args: argparse.Namespace) -> int:
    """Prepare and print the report; the status is 1 if something is wrong with the data."""
    patience = Patience(args.timeout, args.attempts)
    try:
        done = prepare(
            Settings(
                args.out_dir,
                args.archives,
                args.splits,
                args.mirror,
                args.checksums,
                args.resize,
                args.offline,
                patience,
                args.workers,
            )
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt('run it again to go on') from None
    print(done.text(), end='')
    return 1 if done.problems else 0


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
