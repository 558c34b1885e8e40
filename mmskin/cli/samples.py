"""Fetch a dozen real images (CC0) from the ISIC archive, to try mmskin on.

mmskin samples OUT
mmskin predict OUT --metadata OUT/samples.csv

Each file has to have the size that the archive states and be an image; its hash is noted in OUT/samples.json, with
which later runs compare it. Without a network, try mmskin predict --samples.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('out', metavar='OUT', help='the folder for the images')
    parser.add_argument('--api', metavar='URL', help="address of the archive's API for descriptions of images")
    parser.add_argument('--timeout', type=float, default=30, help='seconds without a byte before a connection is reset')
    parser.add_argument('--attempts', type=int, default=4, help='failures in a row before an image is given up')


def run(args: argparse.Namespace) -> int:
    """Fetch, and print what is there; the status is 1 if an image is not."""
    import sys

    from mmskin.datasets.preparation.download import Patience
    from mmskin.datasets.preparation.samples import API, fetch_samples

    there, faults = fetch_samples(args.out, args.api or API, Patience(args.timeout, args.attempts))
    for image_id, noted in there.items():
        size = f'{noted["bytes"] / 1e6:.1f} MB'
        print(f'{image_id}  {noted["diagnosis"]:<20}  {size:>8}  {noted["licence"]}  {noted["attribution"]}')
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f'try: mmskin predict {args.out} --metadata {args.out}/samples.csv')
    return 1 if faults else 0
