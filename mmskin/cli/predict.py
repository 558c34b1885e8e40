"""Diagnose and outline the lesions in images: print a line for each, and on request write a table, masks and more.

mmskin predict photo.jpg
mmskin predict photo.jpg folder 'more/*.png' --out-dir OUT

OUT/predictions.csv has a row for each image, and OUT/masks/<image id>_segmentation.png is its mask: 0 and 255, of the
image's own size. Unreadable files are reported and skipped. Exit status: 0 if all went well, 1 if an
image was skipped, 2 if nothing could be started or written. Research software, not a medical device.
"""

import argparse
import os
import sys
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import mmskin
from mmskin.errors import Mistake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmskin.inference.image_sources import ImageFiles, ImageSource
    from mmskin.inference.inferencer import LesionInferencer
    from mmskin.inference.prediction import CocoFile, FailedImage, LesionPrediction, PredictionFiles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('inputs', nargs='*', metavar='INPUT', help='image files, folders, or patterns in quotes')
    parser.add_argument('--samples', action='store_true', help='painted lesions that come with mmskin, to try it out')
    parser.add_argument('--recursive', action='store_true', help='search folders below the named ones, too')
    parser.add_argument('--out-dir', type=Path, help='write a table, masks and the files of other options here')
    parser.add_argument(
        '--json', metavar='FILE', help='write one JSON object a line: probabilities, measurements, gate rates'
    )
    parser.add_argument('--contours', action='store_true', help='include outlines in --json')
    parser.add_argument('--coco', type=Path, metavar='FILE', help='write outlines and classes in the format of COCO')
    parser.add_argument(
        '--mm-per-pixel',
        type=float,
        metavar='MM',
        help='scale of all images, for sizes in mm; a DICOM may have its own',
    )
    model = parser.add_argument_group('model')
    model.add_argument(
        '--model',
        nargs='+',
        help='model folder, name of a model that comes with mmskin (default), config, or exported .onnx or .xml; '
        'of several, the mean',
    )
    model.add_argument(
        '--checkpoint', nargs='+', help='checkpoint file or work folder, for a config; several are averaged'
    )
    model.add_argument('--device', help='such as cuda:1, cpu, or openvino, which is faster (a GPU if there is one)')
    model.add_argument('--batch-size', type=int, default=8, help='images at a time')
    model.add_argument('--on', choices=['ray'], help='predict on a Ray cluster, which sees the same files')
    model.add_argument(
        '--ray-address', metavar='ADDRESS', help='address of a Ray cluster (by default one is started on this machine)'
    )
    parser.add_argument(
        '--max-pixels', type=int, default=50_000_000, help='largest image to decode, in pixels (50000000)'
    )
    model.add_argument(
        '--tta', action=argparse.BooleanOptionalAction, help="average over several views (as the model's config says)"
    )
    beside = parser.add_argument_group('metadata, for networks that use it; what is left out counts as unknown')
    beside.add_argument('--metadata', metavar='TABLE', help='CSV with image_id and the inputs, such as age and sex')
    beside.add_argument('--age', help='age of all images without one in the table')
    beside.add_argument('--sex', help='sex of all images without one in the table')
    beside.add_argument(
        '--input', action='append', default=[], metavar='NAME=VALUE', help='the same for any other input of the network'
    )
    mask = parser.add_argument_group('mask')
    mask.add_argument('--fill-holes', action='store_true', help='fill the holes of each mask')
    mask.add_argument('--largest-component', action='store_true', help='keep the largest piece of each mask')
    more = parser.add_argument_group('more files in --out-dir')
    more.add_argument('--overlays', action='store_true', help='overlays/<image id>.jpg: the outline on the image')
    more.add_argument(
        '--probabilities',
        action='store_true',
        help='probabilities/<image id>.png: probability of lesion, from 0 to 255',
    )
    more.add_argument(
        '--explain',
        action='store_true',
        help='explanations/<image id>.png and .json: evidence, gates, and the answer without each route',
    )


def run(args: argparse.Namespace) -> int:
    """Predict, and say the answers."""
    print('loading the network ...', file=sys.stderr, flush=True)  # some seconds, most of them for importing torch
    from mmskin.files import named
    from mmskin.inference.image_sources import find_files
    from mmskin.inference.inferencer import LesionInferencer
    from mmskin.inference.prediction import CocoFile, PredictionFiles

    wanted = [name for name in ('overlays', 'probabilities', 'explain') if getattr(args, name)]
    if wanted and args.out_dir is None:
        raise Mistake(f'--{wanted[0]} writes files; say where, by --out-dir FOLDER')
    if args.contours and args.json is None:
        raise Mistake('--contours go into --json; name a file, or - for standard output')
    if args.ray_address and not args.on:
        raise Mistake('--ray-address goes with --on ray; add that, or leave the address out')
    if args.max_pixels < 1:
        raise Mistake(f'--max-pixels {args.max_pixels} would take no image at all; give a number above 0')
    if args.mm_per_pixel is not None and not 1e-6 <= args.mm_per_pixel <= 1e3:
        raise Mistake(f'--mm-per-pixel {args.mm_per_pixel}: give a number from 0.000001 to 1000, such as 0.02')
    if not args.inputs and not args.samples:
        raise Mistake('no images; name files, folders or patterns, or try --samples')
    inputs = [*args.inputs, *([str(Path(mmskin.__file__).parent / 'samples')] if args.samples else [])]
    sources = find_files(inputs, args.max_pixels, args.recursive)
    _refuse_overwriting(args, sources)
    steps = {'FillHoles': args.fill_holes, 'LargestComponent': args.largest_component}
    post = [name for name, chosen in steps.items() if chosen] or None  # or what the model's config says
    network = {'model': args.model, 'checkpoint': args.checkpoint, 'device': args.device, 'tta': args.tta, 'post': post}
    network['batch_size'] = args.batch_size
    inferencer = LesionInferencer(**network)
    if args.explain and (len(args.model or ()) > 1 or len(args.checkpoint or ()) > 1):
        raise Mistake('only a single network can be explained; leave out --explain, or name one')
    if args.explain and inferencer.is_exported:
        raise Mistake(
            f'{args.model[0]}: an exported network cannot be explained; leave out --explain, or name a config'
        )
    sources = _with_metadata(args, inferencer, sources)
    if args.on:
        from mmskin.inference.on_ray import iterate_on_ray

        items = iterate_on_ray(network, sources, args.probabilities, args.ray_address)
    else:
        items = inferencer.iterate(sources, lesion_probability=args.probabilities)
    with ExitStack() as stack:  # the folder last: earlier results there go only when nothing else can be refused
        files = lines = coco = None
        if args.json == '-':
            lines = sys.stdout
        elif args.json:
            stack.enter_context(named(Path(args.json)))
            lines = stack.enter_context(open(args.json, 'a', encoding='utf-8'))
        if args.coco:
            coco = stack.enter_context(CocoFile(args.coco, inferencer.classes))
        items = chain([*islice(items, 1)], items)  # also not by a cluster
        if args.out_dir:
            files = PredictionFiles(args.out_dir, inferencer.classes, args.overlays, args.probabilities)
            stack.enter_context(files)
        if lines and args.json != '-' and os.path.isfile(args.json):
            lines.truncate(0)
        failed = _predict(args, inferencer, sources, items, files, lines, coco)
    return 1 if failed else 0


def _refuse_overwriting(args: argparse.Namespace, sources: 'ImageFiles') -> None:
    """Raise a ``Mistake`` if a result may replace an input, or two of them are one file."""
    from mmskin.inference.prediction import OF_IMAGES

    table = args.out_dir / 'predictions.csv' if args.out_dir else None
    options = {'--out-dir': table, '--json': None if args.json == '-' else args.json, '--coco': args.coco}
    written: dict[str, str] = {}
    for option, path in options.items():
        if path is None:
            continue
        if other := written.get(os.path.realpath(path)):
            raise Mistake(f'{option}: {path} is that of {other}, which would be lost; name another file')
        written[os.path.realpath(path)] = option
    replaced = {os.path.realpath(args.out_dir / name): args.out_dir / name for name, _ in OF_IMAGES if args.out_dir}
    real = lru_cache(os.path.realpath)  # of few folders

    @lru_cache
    def inside(folder: str) -> Path | None:
        return next(
            (replaced[str(place)] for place in (Path(folder), *Path(folder).parents) if str(place) in replaced), None
        )

    read = chain((source.path for source in sources), [args.metadata] if args.metadata else [])
    for path in read if written else ():
        folder, name = os.path.split(path)
        place = os.path.realpath(path) if os.path.islink(path) else os.path.join(real(folder), name)
        if taken := written.get(place):
            raise Mistake(f'{taken}: {options[taken]} is {path}, which would be lost; name another file')
        if path != args.metadata and (folder := inside(os.path.dirname(place))):
            raise Mistake(f'--out-dir: {path} is in {folder}, whose files are replaced; name another')


def _with_metadata(args: argparse.Namespace, inferencer: 'LesionInferencer', sources: 'ImageFiles') -> 'ImageFiles':
    """The images with what the table says of them, the options where it says nothing, and their scale."""
    from mmskin.inference.image_sources import ImageFiles

    pairs = [option.partition('=') for option in args.input]
    pairs += [(name, '=', value) for name, value in (('age', args.age), ('sex', args.sex)) if value is not None]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise Mistake(f'--input {wrong[0]}: give a name and a value, as --input site=back')
    if twice := [name for name, count in Counter(name for name, _, _ in pairs).items() if count > 1]:
        raise Mistake(f'{twice[0]}: given twice; keep one')
    for_all = {name: value for name, _, value in pairs}
    inferencer.check_metadata(for_all, 'options: ')
    table = inferencer.read_metadata(args.metadata, sources.paths.keys()) if args.metadata else {}
    return ImageFiles(sources.paths, args.max_pixels, args.mm_per_pixel, for_all, table)


def _predict(
    args: argparse.Namespace,
    inferencer: 'LesionInferencer',
    sources: 'ImageFiles',
    items: 'Iterator[LesionPrediction | FailedImage]',
    files: 'PredictionFiles | None',
    lines: TextIO | None,
    coco: 'CocoFile | None',
) -> int:
    """Write and say the answers as they come, then a summary; how many images were skipped."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from mmskin.files import json_text, readable
    from mmskin.inference.prediction import FailedImage

    failed = noted = 0
    labels: Counter[str] = Counter()
    out = sys.stderr if args.json == '-' else sys.stdout
    console = Console(stderr=True)
    progress = Progress(
        *(TextColumn('predicting'), BarColumn(), MofNCompleteColumn(), TextColumn('{task.fields[pace]}')),
        console=console,
        redirect_stdout=sys.stdout.isatty(),  # what is printed goes above the bar
        transient=True,
        disable=not console.is_terminal or len(sources) < 2,
    )
    width = min(40, max(map(len, sources.paths)))
    with progress:
        bar = progress.add_task('', total=len(sources), pace='')
        for done, (source, item) in enumerate(zip(sources, items, strict=True), 1):
            seconds = progress.tasks[bar].elapsed or 0  # of all so far: rich's rate is of the last batch, whose
            left = timedelta(seconds=round(seconds / done * (len(sources) - done)))  # answers come at once
            progress.update(bar, completed=done, pace=f'{done / seconds:.1f} images/s, {left} left' if seconds else '')
            if isinstance(item, FailedImage):
                failed += 1
                print(f'skipped: {item.error}', file=sys.stderr)
                continue
            try:
                if files and args.explain:
                    picture = args.out_dir / 'explanations' / f'{source.image_id}.png'
                    files.write(item, source, partial(_explain, inferencer, source, picture))
                elif files:
                    files.write(item, source)
            except Mistake as error:
                failed += 1
                print(f'skipped: {error}', file=sys.stderr)
                continue
            if coco:
                coco.add(item)
            if lines:
                lines.write(json_text(item.to_dict(args.contours)) + '\n')
                lines.flush()
            name = item.image_id if item.image_id.isprintable() else repr(item.image_id)[1:-1]
            print(f'{name:{width}}  {item.summary}', file=out, flush=True)
            labels[readable(item.label or '')] += 1
            noted += bool(item.note)
    if len(sources) > 1:
        counts = [f'{count} {label}' for label, count in labels.most_common() if label]
        counts += [f'{noted} with a note'] if noted else []
        counts += [f'{failed} skipped'] if failed else []
        print(
            f'{len(sources) - failed} of {len(sources)} images predicted{": " if counts else ""}{", ".join(counts)}',
            file=out,
        )
    if files:
        print(f'results: {files.table}', file=out)
    return failed


def _explain(inferencer: 'LesionInferencer', source: 'ImageSource', picture: Path) -> None:
    """Draw why an image got its answer, and write the same as JSON."""
    from mmskin.explain.explanation import draw_explanation, explain
    from mmskin.files import write_json

    picture.parent.mkdir(parents=True, exist_ok=True)
    explanation = explain(inferencer, source)
    draw_explanation(explanation, picture)
    write_json(picture.with_suffix('.json'), explanation.to_dict(), indent=2)
