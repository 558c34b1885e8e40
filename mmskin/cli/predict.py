"""Name the disease and outline the lesion in images: a table, masks, and more on request.

mmskin predict photo.jpg folder 'more/*.png' --out-dir OUT

OUT/predictions.csv has a row for each image, and OUT/masks/<image id>_segmentation.png is its mask: 0 and 255, of the
image's own size. A file that cannot be read is reported, and the others go on. Exit status: 0 if all went well, 1 if an
image was skipped, 2 if nothing could be started or written. Research software, not a medical device.
"""

import argparse
import errno
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmskin.errors import Mistake

if TYPE_CHECKING:
    from mmskin.inference.image_sources import ImageSource
    from mmskin.inference.inferencer import LesionInferencer
    from mmskin.inference.prediction_files import PredictionFiles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a prediction is told on the command line."""
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='image files, folders, or patterns in quotes')
    parser.add_argument('--out-dir', required=True, type=Path, help='results go here, over earlier ones')
    model = parser.add_argument_group('model')
    model.add_argument(
        '--model',
        nargs='+',
        help='model folder, name of a model that comes with mmskin (default), config, or exported .onnx or .xml; '
        'of several, the mean',
    )
    model.add_argument(
        '--checkpoint', nargs='+', help='checkpoint file or work folder, for a config; of several, the mean'
    )
    model.add_argument('--device', help='such as cuda:1 (a GPU if there is one)')
    model.add_argument('--batch-size', type=int, default=8, help='images at a time')
    parser.add_argument('--max-pixels', type=int, default=50_000_000, help='largest image that is decoded (50000000)')
    model.add_argument(
        '--tta', action=argparse.BooleanOptionalAction, help="average over several views (as the model's config says)"
    )
    beside = parser.add_argument_group('beside the images, for networks that are told it; what is left out is unknown')
    beside.add_argument('--metadata', metavar='TABLE', help='CSV with image_id and the inputs, such as age and sex')
    beside.add_argument('--age', help='of all images that the table leaves unknown')
    beside.add_argument('--sex', help='likewise')
    beside.add_argument(
        '--input', action='append', default=[], metavar='NAME=VALUE', help='likewise, any other input of the network'
    )
    mask = parser.add_argument_group('mask')
    mask.add_argument('--fill-holes', action='store_true', help='fill the holes of each mask')
    mask.add_argument('--largest-component', action='store_true', help='keep the largest piece of each mask')
    more = parser.add_argument_group('more results')
    more.add_argument('--overlays', action='store_true', help='overlays/<image id>.jpg: the outline on the image')
    more.add_argument('--probabilities', action='store_true', help='probabilities/<image id>.png: of lesion, 0 to 255')
    more.add_argument(
        '--explain',
        action='store_true',
        help='explanations/<image id>.png and .json: evidence, gates, and the answer without each route',
    )
    more.add_argument('--json', action='store_true', help='predictions.jsonl: with measurements and gate rates')
    more.add_argument('--contours', action='store_true', help='predictions.jsonl: with outlines, too')


def run(args: argparse.Namespace) -> int:
    """Predict, and say where the result is."""
    from mmskin.inference.image_sources import find_files
    from mmskin.inference.inferencer import LesionInferencer
    from mmskin.inference.prediction_files import PredictionFiles

    if args.max_pixels < 1:
        raise Mistake(f'--max-pixels {args.max_pixels} would take no image at all; give a number above 0')
    sources = find_files(args.inputs, args.max_pixels)
    inferencer = LesionInferencer(
        args.model, args.checkpoint, args.device, args.tta, _post(args), batch_size=args.batch_size
    )
    if args.explain and (len(args.model or ()) > 1 or len(args.checkpoint or ()) > 1):
        raise Mistake('the reasons are those of one network; leave out --explain, or name one')
    if args.explain and inferencer.is_exported:
        raise Mistake(
            f'{args.model[0]}: an exported network cannot be looked into; leave out --explain, or name a config'
        )
    sources = _told(args, inferencer, sources)
    files = PredictionFiles(
        args.out_dir, inferencer.classes, args.overlays, args.probabilities, args.json, args.contours
    )
    with files:
        failed = _predict(inferencer, sources, files, args.explain)
    print(f'{len(sources) - failed} of {len(sources)} images predicted: {files.table}')
    return 1 if failed else 0


def _told(
    args: argparse.Namespace, inferencer: 'LesionInferencer', sources: 'list[ImageSource]'
) -> 'list[ImageSource]':
    """The images with what the table says of them, and the options where it says nothing."""
    pairs = [option.partition('=') for option in args.input]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise Mistake(f'--input {wrong[0]}: give a name and a value, as --input site=back')
    options = {'age': args.age, 'sex': args.sex, **{name: value for name, _, value in pairs}}
    for_all = {name: value for name, value in options.items() if value is not None}
    inferencer.check_metadata(for_all, 'options: ')
    table = inferencer.read_metadata(args.metadata, [one.image_id for one in sources]) if args.metadata else {}
    return [replace(one, inputs={**for_all, **table.get(one.image_id, {})}) for one in sources]


def _post(args: argparse.Namespace) -> list[str] | None:
    """What finishes the masks, or None to leave it to the model's config."""
    steps = [
        name
        for name, wanted in (('FillHoles', args.fill_holes), ('LargestComponent', args.largest_component))
        if wanted
    ]
    return steps or None


def _predict(
    inferencer: 'LesionInferencer', sources: 'list[ImageSource]', files: 'PredictionFiles', with_reasons: bool
) -> int:
    """Predict and write image by image; how many were skipped."""
    from rich.console import Console
    from rich.progress import track

    from mmskin.inference.prediction import FailedImage

    failed = 0
    items = inferencer.iterate(sources, lesion_probability=files.probabilities)
    console = Console(stderr=True)
    for source, item in track(
        zip(sources, items, strict=True), 'predicting', len(sources), console=console, disable=not console.is_terminal
    ):
        if isinstance(item, FailedImage):
            failed += 1
            print(f'skipped: {item.error}', file=sys.stderr)
            continue
        try:
            if with_reasons:
                _explain(inferencer, source, files.out_dir / 'explanations' / f'{source.image_id}.png')
            files.write(item, source)
            if item.note:
                print(f'{source.image_id}: {item.note}')
        except Mistake as error:
            failed += 1
            print(f'skipped: {error}', file=sys.stderr)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            failed += 1
            print(f'skipped: {source.name}: its name is too long for those of its results', file=sys.stderr)
    return failed


def _explain(inferencer: 'LesionInferencer', source: 'ImageSource', path: Path) -> None:
    """Draw why the image got its answer."""
    from mmskin.explain.explanation import draw_explanation, explain
    from mmskin.files import write_json

    path.parent.mkdir(parents=True, exist_ok=True)
    explanation = explain(inferencer, source)
    draw_explanation(explanation, path)
    write_json(path.with_suffix('.json'), explanation.to_dict(), indent=2)
