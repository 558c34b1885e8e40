"""Write a finished test's report: one HTML page with figures, which are also saved as PDF and SVG.

mmskin report lite0_isic2017
mmskin report work_dirs/r101_isic2017 --calibrate-on work_dirs/r101_isic2017_val/per_image.csv

It is made from the files in the test's folder (per_image.csv, cases.json, test.json), without the network.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument(
        'folder',
        help='where a test wrote per_image.csv, or the name of a model that was tested; report.html goes there',
    )
    parser.add_argument(
        '--calibrate-on',
        metavar='CSV',
        help='per_image.csv of the same network on other images, as the validation split, to fit a temperature on',
    )
    parser.add_argument('--title', default='Evaluation report', help='heading of the page')


def run(args: argparse.Namespace) -> None:
    """Write the page and say where it is."""
    from mmskin.inference.zoo import tested_folder
    from mmskin.report.page import write_report

    print(f'The report is {write_report(tested_folder(args.folder), args.calibrate_on, args.title)}')
