"""Tell a model what its training images are like, so that it can say which images are unlike them.

    python tools/fit_novelty.py mmskin/zoo/lite0_isic2017 --data-root data/isic2017

It writes novelty.safetensors into the model's folder, which predictions read from there. Then it measures how many
images it flags: of the validation split, which is left out, and of images that are no dermoscopic images of a lesion,
painted or taken from installed packages.
"""

import argparse
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import track

from mmskin.datasets.isic2017 import SPLITS, index_images
from mmskin.datasets.strangers import KINDS, strangers
from mmskin.errors import Mistake
from mmskin.program import run_tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('model', help='model folder, as mmskin publish writes it')
    parser.add_argument('--data-root', default='data/isic2017', help='folder with ISIC-2017 in its official layout')
    parser.add_argument(
        '--share',
        type=float,
        default=0.98,
        help='share of the training images, left out in turn, that should pass (0.98)',
    )
    parser.add_argument('--every', type=int, default=1, help='take every n-th training image (1)')
    parser.add_argument('--measure-only', action='store_true', help='measure with the existing file')


def run(args: argparse.Namespace) -> None:
    """Fit, write and measure."""
    from pathlib import Path

    import torch

    from mmskin.inference.inferencer import LesionInferencer
    from mmskin.inference.novelty import NOVELTY_FILE, Novelty, shared_features
    from mmskin.inference.zoo import model_folder
    from mmskin.models.averaging import networks_in
    from mmskin.models.backbones.chain import BlockChain
    from mmskin.models.weights import HASH, read_metadata

    if not 0.5 < args.share < 1 or args.every < 1:
        raise Mistake(f'--share {args.share} --every {args.every}: give a share from 0.5 to 1, and a whole number')
    folder = model_folder(args.model)
    path = folder.weights.with_name(NOVELTY_FILE)
    network_hash = read_metadata(folder.weights)[HASH]
    if not args.measure_only and path.exists():
        try:
            Novelty.read(path, network_hash)
        except Mistake:
            path.unlink()  # no model would be read next to it
    inferencer = LesionInferencer(args.model, tta=False)
    network = next(iter(networks_in(inferencer.network)), None)
    if network is None or not isinstance(shared := network.backbone.shared, BlockChain) or not shared.names:
        raise Mistake(f'{args.model}: has no shared blocks, whose features would tell its training images from others')

    def features_of(images: list, what: str) -> torch.Tensor:
        batches: Iterator = (images[start : start + 16] for start in range(0, len(images), 16))
        total = -(-len(images) // 16)
        bar = track(batches, what, total, console=Console(stderr=True))
        return torch.cat([shared_features(network, inferencer.inputs(batch)).cpu() for batch in bar])

    images = {
        split: sorted(index_images(Path(args.data_root, f'{SPLITS[split]}_Data')).values())
        for split in ('train', 'val')
    }
    if args.measure_only:
        novelty = Novelty.read(path, network_hash)
    else:
        known = images['train'][:: args.every]
        novelty = Novelty.fit(features_of(known, f'{len(known)} training images'), network_hash, args.share)
        novelty.write(path)
        print(f'{path}: {path.stat().st_size / 2**10:.0f} KiB, of {novelty.num_images} images')
        novelty = Novelty.read(path, network_hash)
    print(f'{"images":24}{"number":>8}{"flagged":>9}{"novelty, 5 to 95 %":>22}')
    sets = {'validation split': images['val'], **{kind: [image for _, image in strangers(kind)] for kind in KINDS}}
    for name, members in sets.items():
        values = novelty.of(features_of(members, name))
        low, high = torch.quantile(values, torch.tensor([0.05, 0.95], dtype=values.dtype)).tolist()
        share = float((values > 1).double().mean())
        print(f'{name:24}{len(members):8}{share:9.1%}{low:14.2f} to {high:.2f}')


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
