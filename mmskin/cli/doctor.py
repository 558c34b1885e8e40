"""Look at this installation: versions, devices, shipped models, data, and what is wrong.

mmskin doctor --data-root data/isic2017

Exit status: 0 if nothing is wrong, 1 otherwise. Images are counted and matched with masks and diagnoses, not read.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('--data-root', help='folder with ISIC-2017 in its official layout (data/isic2017, if there)')


def run(args: argparse.Namespace) -> int:
    """Print what was found, and what is wrong at the end."""
    from mmskin.installation import diagnose

    sections = diagnose(args.data_root)
    for section in sections:
        print(f'{section.title}')
        for line in section.lines:
            print(f'    {line}')
    problems = [problem for section in sections for problem in section.problems]
    print('\nwrong:' if problems else '\nnothing is wrong')
    for problem in problems:
        print(f'    {problem}')
    return 1 if problems else 0
