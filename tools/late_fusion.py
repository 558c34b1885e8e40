"""Say what age and sex would add to the diagnoses of a cross-validated method, without training anything.

    python tools/late_fusion.py results/passing/none --data-root data/isic2017

For each fold, PriorFusion counts age and sex of the other folds' images, and its table is added to the
log-probabilities. Intervals are over images in whole groups, as if seeds did not matter; seeds are averaged.
"""

import argparse
import sys

from mmskin.errors import MissingFile, Mistake
from mmskin.program import run_tool

METRICS = ('AC', 'mAP', 'AUC_mean', 'AUC_melanoma', 'AUC_seborrheic_keratosis')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('method', help="folder of a method in a suite's results; folds.csv is next to it")
    parser.add_argument('--data-root', default='data/isic2017', help='folder with ISIC-2017 in its official layout')
    parser.add_argument('--model', default='lite0_isic2017', help='whose inputs are counted (lite0_isic2017)')


def run(args: argparse.Namespace) -> None:
    """Read the tables, and print each metric without and with the inputs."""
    from pathlib import Path

    import numpy as np
    import torch

    from mmskin.benchmark.collect import join, read_record, tested_folds
    from mmskin.benchmark.comparison import paired_table
    from mmskin.config import load_config, tested_dataset
    from mmskin.inference.zoo import config_of
    from mmskin.models.averaging import member_configs
    from mmskin.models.fusion import PriorFusion, build_inputs, values_of
    from mmskin.registry import DATASETS

    cfg = load_config(config_of(args.model))
    inputs = build_inputs(member_configs(cfg.model)[0].get('inputs'))
    if not inputs:
        raise Mistake(f'--model {args.model}: takes only images; name a model with further inputs')
    method = Path(args.method)
    placed = tested_folds(method.parent / 'folds.csv', (), method.glob('seed*/fold*'))
    numbers = sorted({fold for fold, _ in placed.values()})
    tested = {seed: {fold.name for fold in seed.glob('fold*')} for seed in sorted(method.glob('seed*'))}
    seeds = [seed for seed, there in tested.items() if there >= {f'fold{number}' for number in numbers}]
    if not seeds or len(numbers) < 2:
        raise MissingFile(
            f'{method}: needs a seed* with two folds or more, and all of folds.csv, as in results/passing/none'
        )
    if partial := [seed.name for seed in tested if seed not in seeds]:
        print(f'left out, since not all folds are there: {", ".join(partial)}')
    tables = []
    for seed in seeds:
        parts = [read_record(seed / f'fold{number}') for number in numbers]
        for number, part in zip(numbers, parts, strict=True):
            if odd := {*part.image_ids} ^ {image_id for image_id, (fold, _) in placed.items() if fold == number}:
                raise Mistake(
                    f'{seed}/fold{number}: {min(odd)} is in it or, by folds.csv, should be; restore the table'
                )
        tables.append(join(parts).aligned([*placed]))
    first = tables[0]
    if not first.classes:
        raise Mistake(f'{method}: has no diagnoses to add to; name a method that classifies')
    samples = {}
    for split in ('train', 'val'):
        dataset = DATASETS.build({**tested_dataset(cfg), 'data_root': args.data_root, 'split': split, 'pipeline': []})
        samples |= {sample['image_id']: sample for sample in map(dataset.get_data_info, range(len(dataset)))}
    if missing := placed.keys() - samples.keys():
        raise Mistake(f'{method}: has {min(missing)}, which {args.data_root} lacks; give the data it is of')
    values = values_of(inputs, [samples[image_id] for image_id in first.image_ids])
    folds, groups = (
        np.array(column) for column in zip(*(placed[image_id] for image_id in first.image_ids), strict=True)
    )

    pairs = []
    for table in tables:
        logits, labels = torch.tensor(table.scores).clamp_min(1e-12).log(), torch.tensor(table.labels)
        for fold in np.unique(folds):
            held = torch.tensor(folds == fold)
            told = ~held & ~labels.isnan()
            prior = PriorFusion(0, inputs, num_classes=len(table.classes))
            prior.fit({name: column[told] for name, column in values.items()}, labels[told].long())
            logits[held] = prior.on_logits(logits[held], {name: column[held] for name, column in values.items()})
        pairs.append((table.with_scores(logits.softmax(dim=1).numpy()), table))
    print(f'{len(first)} images in {len({*folds})} folds, seeds: {len(seeds)}, told: {", ".join(inputs)}')
    metrics = [f'{first.diagnosis}/{metric}' for metric in METRICS]
    print(paired_table(pairs, metrics, ('with', 'without'), np.unique(groups, return_inverse=True)[1]))


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
