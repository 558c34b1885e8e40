"""Write a model folder to share: config, weights as safetensors, and a card.

mmskin publish configs/fpm/lite0_isic2017.py work_dirs/lite0_isic2017 my_model --half

To put test results on the card, test the folder and publish again:

mmskin test my_model --split val --work-dir work_dirs/plain
mmskin publish ... my_model --half --results work_dirs/plain/results.json

To average model folders in a new one: mmskin publish a both --with b c
"""

import argparse

from mmskin.program import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('model', help='config of the training, or a model (name or folder) to write again')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file or work folder, if the model is a config')
    parser.add_argument('out_dir', help='folder to write; its name becomes the name of the model')
    parser.add_argument('--with', nargs='+', metavar='MODEL', help='models to average it with: names or folders')
    size = parser.add_mutually_exclusive_group()
    size.add_argument('--half', action='store_true', help='half precision: half the size')
    size.add_argument(
        '--int8', action='store_true', help='8 bits for each weight and a factor for every 32: a quarter of the size'
    )
    parser.add_argument('--results', help='results.json of mmskin test, with per_image.csv next to it, for the card')
    parser.add_argument('--tta-results', help='the same of a test with --tta')
    parser.add_argument('--audit', help='audit.json of mmskin audit, for the card')
    parser.add_argument('--recipe', help='command that trained the model, for the card')
    parser.add_argument('--card-text', default='', help='more about the training, for the card')
    parser.add_argument('--license', default='apache-2.0', help='of the weights, as Hugging Face names it (apache-2.0)')
    add_settings(parser, 'test_dataloader.batch_size=1')


def run(args: argparse.Namespace) -> None:
    """Write the folder and say what is in it."""
    from mmskin.errors import Mistake
    from mmskin.files import read_note
    from mmskin.inference.inferencer import read_models
    from mmskin.inference.novelty import NOVELTY_FILE
    from mmskin.models.weights import HASH, read_metadata
    from mmskin.packaging.card import Recipe, model_card, networks_of, read_test
    from mmskin.packaging.publish import publish_weights

    cfg, weights = read_models([args.model, *(vars(args)['with'] or ())], args.checkpoint, args.cfg_options)
    if not weights:
        raise Mistake(f'{args.model} was exported; publish the model that it was made of')
    files = {False: args.results, True: args.tta_results}
    default = bool(cfg.get('tta'))  # the model's default comes first
    tests = [read_test(files[tta], tta) for tta in (default, not default) if files[tta]]
    shortcuts = read_note(args.audit, 'audit.json') if args.audit else None
    networks = [test.networks for test in tests] + ([networks_of(shortcuts)] if shortcuts else [])
    trained = f'mmskin train {args.model}' if args.checkpoint else ''  # of a model it is not known
    recipe = Recipe(args.recipe or trained, args.card_text, args.license)
    folder = publish_weights(
        *(cfg, weights, args.out_dir, args.half, args.int8, networks),
        card=lambda written: model_card(written, cfg, recipe, tests, shortcuts),
    )
    for path in folder:
        print(f'{path}  {path.stat().st_size / 2**10:,.0f} KiB')
    there = [path for file in (folder.weights, *weights) if (path := file.with_name(NOVELTY_FILE)).is_file()]
    own, network = folder.weights.with_name(NOVELTY_FILE), read_metadata(folder.weights)[HASH]
    if there and (own not in there or read_metadata(own).get('network') != network):
        print(f'{own}: missing, or of other weights; make it by tools/fit_novelty.py {args.out_dir}')
