"""Choose additional training images by their features: python tools/select_data.py ARCHIVE data/isic2017.

To train with the result: --cfg-options train_dataloader.dataset.extra=work_dirs/selection/selected.csv
train_dataloader.dataset.outside_data_root=True
"""

import argparse
import sys

from mmskin.config import SettingsAction
from mmskin.datasets.selection import FeatureOptions, select_data
from mmskin.errors import Mistake
from mmskin.program import run_tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('candidates', help='folder of images, at any depth')
    parser.add_argument('data_root', help='data folder in the official layout, with the training split')
    parser.add_argument('--out-dir', default='work_dirs/selection', help='selected.csv, distances.csv, histogram.png')
    parser.add_argument('--threshold', type=float, help='largest mean cosine distance to accept')
    parser.add_argument('--count', type=int, help="largest number of images; without --threshold the paper's 521")
    parser.add_argument('--labels', help="table of the candidates' diagnoses, like the official Part 3")
    parser.add_argument('--masks', help="folder of the candidates' masks, <id>_segmentation.png")
    parser.add_argument(
        '--network',
        nargs='+',
        action=SettingsAction,
        help='any registered network; offline, weights=FILE or: type=EfficientNetLite0Chain weights=imagenet',
    )
    parser.add_argument('--size', type=int, default=FeatureOptions.size, help="side of the network's input")
    parser.add_argument('--mean', type=float, nargs=3, default=FeatureOptions.mean, help='subtracted from 0 to 255')
    parser.add_argument('--std', type=float, nargs=3, default=FeatureOptions.std, help='divides the result')
    parser.add_argument('--batch-size', type=int, default=FeatureOptions.batch_size)
    parser.add_argument('--num-workers', type=int, default=FeatureOptions.num_workers)


def run(args: argparse.Namespace) -> None:
    """Select, and print the result."""
    if args.threshold is None and args.count is None:
        args.count = 521
    network = args.network or {}
    if 'type' not in network:
        network = dict(type='VGGChain', weights='torchvision://vgg16') | network
    elif 'weights' not in network:
        raise Mistake(f'--network type={network["type"]}: name its weights, too, or weights=None for random ones')
    places = args.candidates, args.data_root, args.out_dir
    options = FeatureOptions(args.size, args.mean, args.std, args.batch_size, args.num_workers)
    samples = select_data(*places, network, args.threshold, args.count, args.labels, args.masks, options)
    labelled = sum(sample['gt_label'] is not None for sample in samples)
    masks = sum('seg_map_path' in sample for sample in samples)
    print(
        f'{len(samples)} images selected, {labelled} with a diagnosis, {masks} with a mask: {args.out_dir}/selected.csv'
    )


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
