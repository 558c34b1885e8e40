"""Serve a page that shows outline, probabilities and explanation of images dropped on it, or a service (--api).

mmskin serve
mmskin serve --model configs/fpm/lite0_isic2017.py --checkpoint work_dirs/lite0_isic2017 --port 8000
mmskin serve --api
curl --data-binary @photo.jpg 'http://localhost:7860/predict?name=photo.jpg'

Only this machine can open it, unless --host says otherwise. Images are not kept, and no other machine is
contacted. Research software, not a medical device. Needs: pip install '.[serve]', for the service '.[ray]'
"""

import argparse
import signal

from mmskin.errors import Mistake


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen on (127.0.0.1, this machine only); 0.0.0.0 lets everybody in',
    )
    parser.add_argument('--port', type=int, default=7860, help='port to listen on (7860)')
    parser.add_argument(
        '--allow-host',
        action='append',
        default=[],
        metavar='NAME',
        help='host name by which browsers reach the page, such as that of a web server in front of it; may be repeated',
    )
    parser.add_argument(
        '--trust-proxy',
        metavar='ADDRESS',
        help='address of a web server in front of the page, whose X-Forwarded headers are trusted (none by default)',
    )
    parser.add_argument(
        '--model',
        help='model folder, name of a model that comes with mmskin (default), config, or exported .onnx or .xml',
    )
    parser.add_argument('--checkpoint', help='checkpoint file or work folder, for a config')
    parser.add_argument('--device', help='such as cuda:1, cpu, or openvino, which is faster (a GPU if there is one)')
    parser.add_argument(
        '--tta', action=argparse.BooleanOptionalAction, help="average over several views (as the model's config says)"
    )
    parser.add_argument('--max-megabytes', type=float, default=30, help='largest file accepted, in MB (30)')
    parser.add_argument(
        '--max-total-megabytes',
        type=float,
        default=2000,
        help='largest sum of uploads that wait for answers, in MB (2000)',
    )
    parser.add_argument(
        '--max-pixels', type=int, default=50_000_000, help='largest image accepted, in pixels (50000000)'
    )
    api = parser.add_argument_group('the service')
    api.add_argument(
        '--api', action='store_true', help='POST an image to /predict, get JSON; networks run on Ray Serve'
    )
    api.add_argument('--replicas', type=int, help='processes with a network each (one for each GPU, or one)')
    api.add_argument('--batch-size', type=int, help='images in a batch, at most (8 on a GPU, else 1)')
    api.add_argument('--queue', type=int, help='images that may wait; further ones get status 503 (64)')
    api.add_argument('--timeout', type=float, help='seconds for an answer, waiting included (30)')
    api.add_argument(
        '--ray-address', metavar='ADDRESS', help='address of a Ray cluster (by default one is started on this machine)'
    )


def run(args: argparse.Namespace) -> None:
    """Load the model once, and serve until Ctrl-C."""
    from mmskin.web.limits import Limits

    limits = Limits(args.max_megabytes, args.max_pixels, total_megabytes=args.max_total_megabytes)
    names = (args.host, args.port, args.allow_host, args.trust_proxy)
    asked = {name: getattr(args, name) for name in ('replicas', 'batch_size', 'queue', 'timeout')}
    load = {name: value for name, value in asked.items() if value is not None}
    if args.api:
        from mmskin.cluster import import_ray

        import_ray(args.ray_address)
        from mmskin.web.api import Load, answering
        from mmskin.web.door import Address, until_told_to_end

        model = {'model': args.model, 'checkpoint': args.checkpoint, 'device': args.device, 'tta': args.tta}
        with answering(model, limits, Load(**load), Address(*names), args.ray_address) as url:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # now, since Ray has one of its own, which aborts
            until_told_to_end(f'{args.model or "the model that ships"} at {url}predict')
        return
    if load or args.ray_address:
        raise Mistake(
            '--replicas, --batch-size, --queue, --timeout and --ray-address go with --api; add it, or drop them'
        )
    from mmskin.web.page import import_gradio

    import_gradio()  # whether it is installed
    from mmskin.inference.inferencer import LesionInferencer
    from mmskin.inference.zoo import DEFAULT_MODEL
    from mmskin.web.door import Address, until_told_to_end
    from mmskin.web.server import running

    inferencer = LesionInferencer(args.model, args.checkpoint, args.device, args.tta)
    title = args.model or DEFAULT_MODEL
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, so that the folder is removed
    with running(inferencer, limits, title, Address(*names)) as (url, _):
        until_told_to_end(f'{title} at {url}')
