"""Prepare a public collection: verify, unpack and check its archives, look for leaks, write a table and a config.

mmskin prepare isic2017 --out data/isic2017 --resize 256
mmskin prepare ham10000 downloads --out data/ham10000 --against data/isic2017

Archives are files, folders with some, or folders already unpacked. Missing ones are downloaded where the collection has
an address. After an interruption, run it again: it continues where it stopped. The report goes to
preparation.txt in the data folder.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('name', help='isic2017, ham10000, isic2018_task12, isic2018_task3, isic2019 or ph2')
    parser.add_argument('archives', nargs='*', help='archives, or folders that hold them')
    parser.add_argument('--out', required=True, metavar='DIR', help='the data folder to create')
    parser.add_argument('--offline', action='store_true', help='download nothing')
    parser.add_argument(
        '--splits', nargs='+', choices=['train', 'val', 'test'], help='only the archives of these splits'
    )
    parser.add_argument(
        '--against', nargs='+', default=[], metavar='DIR', help='other prepared folders, to find images they share'
    )
    parser.add_argument('--mirror', action='append', default=[], metavar='URL', help='address to try first; repeatable')
    parser.add_argument(
        '--checksums', metavar='FILE', help="checksums as md5sum or sha256sum writes them; override mmskin's"
    )
    parser.add_argument('--resize', type=int, metavar='PIXELS', help='also write a copy for training, DIR_PIXELS')
    parser.add_argument('--timeout', type=float, default=30, help='seconds without a byte before a connection is reset')
    parser.add_argument('--attempts', type=int, default=8, help='failures in a row before an address is given up')
    parser.add_argument('--workers', type=int, help='threads for checking and resizing')


def run(args: argparse.Namespace) -> int:
    """Prepare and print the report; the status is 1 if something is wrong with the data."""
    from pathlib import Path

    from mmskin.datasets.preparation.download import Patience
    from mmskin.datasets.preparation.prepare import Settings, prepare

    settings = Settings(
        collection=args.name,
        out_dir=args.out,
        sources=args.archives,
        splits=args.splits,
        mirrors=args.mirror,
        checksums=args.checksums,
        resize=args.resize,
        offline=args.offline,
        against=args.against,
        patience=Patience(args.timeout, args.attempts),
        workers=args.workers,
    )
    try:
        done = prepare(settings)
    except KeyboardInterrupt:
        raise KeyboardInterrupt('run it again to continue') from None
    print(done.text(), end='')
    if not done.problems:
        print(f'train with: mmskin train {Path(done.copy or args.out, args.name)}.py')
    return 1 if done.problems else 0
