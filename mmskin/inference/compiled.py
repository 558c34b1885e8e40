"""OpenVINO in the place of PyTorch, where a CPU predicts: about twice as fast, and the same up to rounding."""

import errno
import hashlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from filelock import FileLock
from mmengine.logging import print_log
from torch import Tensor

import mmskin
from mmskin.errors import Mistake, in_one_line
from mmskin.files import cache_folder, refuse_device, write_whole
from mmskin.inference.exported import import_openvino, openvino_core, openvino_options
from mmskin.inference.novelty import shared_features
from mmskin.models.fusion import Values
from mmskin.models.multitask import Compiled, MultiTaskModel
from mmskin.models.weights import hash_tensors

TOLERANCE = 1e-4  # rounding is a hundredth of it
PATIENCE = 60  # seconds, in which another process should be done with preparing
SEAL = hashlib.sha256().digest_size  # bytes before what is kept


def estimates_of(network: MultiTaskModel, images: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """What the tasks of a network estimate, of tensors alone."""
    feats = network.extract_feat(images, dict(zip(network.inputs, values, strict=True)))
    return tuple(network.tasks[name].estimate(maps, images.shape[2:]) for name, maps in feats.items())


def compile_network(
    network: MultiTaskModel, size: int, batch: int, prepare: bool, required: bool = False, with_features: bool = True
) -> None:
    """Let ``network``, in evaluation mode, predict by OpenVINO from now on, for images of ``size`` x ``size`` pixels.

    What that takes is kept in ``mmskin/openvino`` of the user's cache (``XDG_CACHE_HOME``, by default ``~/.cache``),
    which may be deleted at any time, and is compared with PyTorch each time that it is read.

    Args:
        network: Stays as it is for all but predictions.
        size: Of the images; others are predicted by PyTorch.
        batch: Images in a pass, as one image's views are: a fixed number takes a tenth less time than any.
        prepare: Make what is missing, which takes ten seconds, if it can be kept. Without it nothing happens unless
            the network is there.
        required: Raise if OpenVINO cannot predict, and make what is missing even if it cannot be kept.
        with_features: Its shared features, too, by which novelty is measured.

    Raises:
        MissingLibrary: if OpenVINO is required and not installed.
        Mistake: if it is required, and the network passes features, whose gates could then not be seen, or it cannot be
            run.
    """
    folder = cache_folder('openvino')
    can_run = type(network) is MultiTaskModel and not network.routes()
    if required:
        import_openvino()
        if not can_run:
            raise Mistake('OpenVINO runs no network that looks twice or passes features; give device="cpu"')
    elif not (can_run and find_spec('openvino') and (os.path.isdir(folder) or (prepare and writable(folder)))):
        return
    made_of = [
        hash_tensors(network.state_dict()),
        str(size),
        str(batch),
        str(network),
        mmskin.__version__,
        *map(version, ('torch', 'openvino')),
    ]
    start = folder / hashlib.sha256('\n'.join(made_of).encode()).hexdigest()[:32]
    last = start.with_suffix('.features' if with_features else '.estimates')
    if not (required or os.path.isfile(last) or (prepare and writable(folder))):
        return
    images = torch.randn(batch + 1, 3, size, size, generator=torch.Generator().manual_seed(0))
    values = [torch.tensor([torch.nan, *[each.examples()[0]] * batch]) for each in network.inputs.values()]
    try:
        estimate = kept(network, estimates_of, [images, *values], batch, start.with_suffix('.estimates'), required)
        features = None
        if with_features:
            place = start.with_suffix('.features')
            features = kept(network, lambda net, x: (shared_features(net, x),), [images[:2]], 1, place, required)
    except Mistake as error:
        if required:
            raise
        print_log(f'{error}; PyTorch predicts', logger='current', level=logging.WARNING)
        return

    def estimates(inputs: Tensor, values: Values) -> dict[str, Tensor]:
        unknown = inputs.new_full((len(inputs),), torch.nan)
        outputs = estimate([inputs, *(values.get(name, unknown) for name in network.inputs)])
        return dict(zip(network.active_tasks, outputs, strict=True))

    network.compiled = Compiled((size, size), estimates, (lambda inputs: features([inputs])[0]) if features else None)


def writable(folder: Path) -> bool:
    """Whether files can be put into ``folder``, which is made if it is missing."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.access(folder, os.W_OK)
    return False


def kept(
    network: MultiTaskModel, function: Callable, examples: list[Tensor], batch: int, path: Path, required: bool
) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """``function`` of ``network`` by OpenVINO, from ``path`` if it is there and right, else made again and kept there.

    Args:
        network: Whose weights count.
        function: Takes the network and tensors, and gives several.
        examples: What it takes, for a batch and one more.
        batch: Images in a pass; a call takes as many passes as it needs, the last one filled up.
        path: Where it is kept, unless nothing can be written there.
        required: Make it each time, where it cannot be kept.
    """
    refuse_device(path)
    with torch.inference_mode():
        expected = function(network, *examples)

    def opened(blob: bytes) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        compiled = openvino_core().import_model(blob, 'CPU', openvino_options())  # a blob keeps none

        def run(tensors: Sequence[Tensor]) -> list[Tensor]:
            request = compiled.create_infer_request()  # one's own: threads cannot share one
            count = len(tensors[0])
            passes = torch.arange(count + -count % batch).clamp(max=count - 1).split(batch)
            outputs = [
                [torch.tensor(array) for array in request.infer([tensor[some].numpy() for tensor in tensors]).values()]
                for some in passes
            ]
            return [torch.cat(parts)[:count] for parts in zip(*outputs, strict=True)]

        pairs = zip(run(examples), expected, strict=True)
        if not all(torch.allclose(own, right, atol=TOLERANCE, rtol=TOLERANCE) for own, right in pairs):
            raise Mistake(f'{path}: OpenVINO gives other answers than PyTorch; give device="cpu"')
        return run

    def stored() -> Callable[[Sequence[Tensor]], list[Tensor]] | None:
        with suppress(FileNotFoundError, RuntimeError, Mistake):  # of another CPU or version
            content = path.read_bytes()
            if hashlib.sha256(content[SEAL:]).digest() == content[:SEAL]:  # OpenVINO may end a process at another
                return opened(content[SEAL:])
        return None

    run = None
    try:
        if run := stored():  # whole, as it was written, and perhaps where this user has no right to a lock
            return run
        if not writable(path.parent):  # a lock would be waited for
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))
        with FileLock(path.with_suffix(path.suffix + '.lock'), timeout=PATIENCE):
            if run := stored():  # by another process, meanwhile
                return run
            print('preparing the network for OpenVINO, once on this machine ...', file=sys.stderr, flush=True)
            blob = freshly_compiled(network, function, [example[:batch] for example in examples])
            run = opened(blob)
            write_whole(path, hashlib.sha256(blob).digest() + blob)
    except (OSError, NotImplementedError) as error:  # the latter of a file system without locks
        text = f'{path.parent}: {getattr(error, "strerror", None) or error}; nothing is kept'
        if run is None and not required:
            raise Mistake(text) from error
        print_log(text, logger='current', level=logging.WARNING)
    return run or opened(freshly_compiled(network, function, [example[:batch] for example in examples]))


def freshly_compiled(network: MultiTaskModel, function: Callable, examples: list[Tensor]) -> bytes:
    """``function`` of ``network`` as OpenVINO compiles it for this CPU, for what has the shapes of ``examples``."""
    shapes = [[*example.shape] for example in examples]
    convert_model = import_openvino().convert_model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of conditions that the trace takes as settled
            # of a function, not of each of its modules, and once, since answers are compared: a third of the time
            constant = deepcopy(network).requires_grad_(False)
            traced = torch.jit.trace(lambda *tensors: function(constant, *tensors), tuple(examples), check_trace=False)
            model = convert_model(traced, example_input=tuple(examples), input=shapes)
    except Exception as error:  # what a network may hold that cannot be traced has no common base
        raise Mistake(f'OpenVINO cannot run this network ({in_one_line(error)}); give device="cpu"') from error
    return openvino_core().compile_model(model, 'CPU', openvino_options()).export_model().getvalue()
