"""Export to ONNX and OpenVINO: a file that says how its images are prepared and what its numbers mean."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import init_default_scope
from torch import Tensor, nn

import mmskin
from mmskin.config import class_names, config_name, tested_dataset, tested_metainfo
from mmskin.errors import Mistake, in_one_line, needs, place_of
from mmskin.files import json_text, whole_folder
from mmskin.inference.exported import (
    FORMAT_VERSION,
    INPUTS,
    METADATA_KEY,
    SEAL,
    UNSEALED,
    Session,
    import_openvino,
    open_session,
    seal,
)
from mmskin.models.averaging import Ensemble, load_members, member_configs
from mmskin.models.fusion import Input
from mmskin.models.multitask import MultiTaskModel
from mmskin.models.tasks.task import Task
from mmskin.models.weights import hash_tensors, read_weights, without_lookups
from mmskin.registry import MODELS, TRANSFORMS, checked

TOLERANCE = 1e-4  # of probabilities; float32 sums in another order give about 1e-6
BATCH_SIZES = (1, 2, 5)
PIPELINE = ('LoadImage', 'ResizeImage', 'LoadMask', 'PackTaskSample')


class Probabilities(nn.Module):
    """Networks whose outputs are the means of what their tasks estimate, by ``<task>_probabilities`` or ``_values``.

    Attributes:
        tasks: The active tasks, each of the first network that has it, which say what the outputs are.
        inputs: What the active tasks are given with the image, by name.

    Raises:
        Mistake: if a task or an input of one network is another kind in the next.
    """

    def __init__(self, networks: Sequence[MultiTaskModel]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        tasks: dict[str, Task] = {}
        self.inputs: dict[str, Input] = {}
        for network in networks:
            for name in network.active_tasks:
                task = cast(Task, network.tasks[name])
                if output_name(tasks.setdefault(name, task)) != output_name(task):
                    raise Mistake(f'the task {name} differs between the networks; export each separately')
            fusions = [network.tasks[name].fusion for name in network.active_tasks]
            read = {name for fusion in fusions if fusion for name in fusion.inputs}
            for name, given in network.inputs.items():
                if name in read and self.inputs.setdefault(name, given).describe() != given.describe():
                    raise Mistake(f'the networks take {name} in different ways; export each separately')
        self.tasks = [*tasks.values()]

    def forward(self, images: Tensor, values: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Estimates for normalised images (N, 3, h, w) and the values (N,) of the inputs, NaN where unknown."""
        size = images.shape[2:]
        estimates: dict[str, list[Tensor]] = {task.name: [] for task in self.tasks}
        for network in cast(Sequence[MultiTaskModel], self.networks):
            for name, feats in network.extract_feat(images, values).items():
                estimates[name].append(network.tasks[name].estimate(feats, size))
        return {output_name(task): torch.stack(estimates[task.name]).mean(dim=0) for task in self.tasks}


def output_name(task: Task) -> str:
    """The name of a task's output."""
    if not task.kind or MODELS.module_dict.get(type(task).__name__) is not type(task):
        raise Mistake(
            f'the task {task.name} is a {type(task).__name__}, which cannot be exported: it has no kind, or is not '
            'registered by its name'
        )
    return f'{task.name}_{"values" if task.kind == "values" else "probabilities"}'


@checked
def export_model(cfg: Config, weights: str | Path | Sequence[str | Path], out: str | Path) -> float:
    """Export the network of ``cfg``, or an ensemble as one file, and compare what it computes with what torch does.

    Only files that passed come to their place; what was there before stays until then.

    Args:
        cfg: As ``load_config`` gives it, or ``read_models`` for an ensemble.
        weights: Anything that ``load_weights`` reads; several for an ensemble, one for each network or of one config.
        out: ``.onnx``, or ``.xml`` for OpenVINO, which writes a ``.bin`` next to it.

    Returns:
        The largest difference between any two probabilities, over batches of several sizes.

    Raises:
        MissingLibrary: if the libraries for it are not installed; the message says how to.
        Mistake: if the network or its pipeline cannot be described, the suffix is unknown, a library cannot write the
            network, or the results differ by more than ``TOLERANCE``.
    """
    out = Path(out)
    if out.suffix not in ('.onnx', '.xml'):
        raise Mistake(f'{out}: export writes .onnx, or .xml for OpenVINO')
    if out.is_dir():
        raise Mistake(f'{out}: is a folder; name a file')
    files = [weights] if isinstance(weights, (str, Path)) else [*weights]
    if not files:
        raise Mistake(f'{cfg.filename} holds its weights and is exported already; export the model that it was made of')
    init_default_scope(cfg.get('default_scope', 'mmskin'))
    is_ensemble = len(files) > 1 and 'members' not in cfg.model
    config = dict(type='Ensemble', members=[cfg.model] * len(files)) if is_ensemble else cfg.model
    model = MODELS.build(without_lookups(config))
    networks = [*model.networks()] if isinstance(model, Ensemble) else [model]
    if odd := [network for network in networks if not isinstance(network, MultiTaskModel)]:
        raise Mistake(f'{cfg.filename}: a {type(odd[0]).__name__} cannot be exported, only a MultiTaskModel')
    load_members(model, files, tested_metainfo(cfg))
    network = Probabilities(cast(Sequence[MultiTaskModel], networks)).eval()
    description = describe(cfg, files, network)
    with whole_folder(out) as folder:
        try:
            write_files(network, description, folder / out.name)
        except (Mistake, OSError, MemoryError):
            raise
        except Exception as error:  # what a network may hold that cannot be traced has no common base
            root: BaseException = error
            while root.__cause__:  # what a tracer itself says are pages of advice
                root = root.__cause__
            message, place = str(root).strip().partition('\n')[0], place_of(root)
            why = f'{f"{place}: " if place else ""}{type(root).__name__}{f": {message}" if message else ""}'
            raise Mistake(f'{cfg.filename}: this network cannot be exported ({why})') from error
        session = open_session(folder / out.name)._replace(path=out)
        difference = check_against(network, session, description['input']['size'])
        for file in folder.iterdir():
            file.replace(out.parent / file.name)
    return difference


def write_files(network: Probabilities, description: dict[str, Any], path: Path) -> None:
    """Trace the network for batches of any size, and write it with its description.

    Next to an OpenVINO file comes the ONNX file that it is made from.
    """
    onnx = needs('onnx', 'onnx')
    needs('onnxscript', 'onnx')
    size = description['input']['size']
    images = torch.zeros(2, 3, size, size)  # a batch of one would be taken for a constant
    values = {name: torch.tensor([math.nan, given.examples()[0]]) for name, given in network.inputs.items()}
    axes = dict.fromkeys(values, {0: torch.export.Dim.AUTO})  # found to be the images'
    program = torch.onnx.export(
        network,
        (images,),
        kwargs={'values': values} if values else None,
        input_names=['images', *values],
        output_names=list(description['outputs']),
        dynamic_shapes={'images': {0: torch.export.Dim('batch')}, **({'values': axes} if values else {})},
        dynamo=True,
        verbose=False,
    )
    assert program is not None, 'torch.onnx.export gives a program with dynamo=True'
    model = program.model_proto
    onnx.helper.set_model_props(model, {METADATA_KEY: json_text(description)})
    model.doc_string = f'mmskin {mmskin.__version__}: {description["model"]}'
    onnx_file = path.with_suffix('.onnx')
    onnx.save(model, onnx_file)
    if path.suffix == '.xml':
        openvino = import_openvino()
        converted = openvino.convert_model(onnx_file)
        converted.set_rt_info(json_text(description), METADATA_KEY)
        try:
            openvino.save_model(converted, path, compress_to_fp16=False)  # in full precision, as the ONNX file
        except RuntimeError as error:  # 'iostream error' where a disk is full
            raise Mistake(f'{path.name}: cannot be written ({in_one_line(error)}); is the disk full?') from error
    for file in {onnx_file, path}:
        seal(file)


def describe(cfg: Config, files: Sequence[str | Path], network: Probabilities) -> dict[str, Any]:
    """What a program has to know to use the file, as JSON holds it."""
    hashes = [hash_tensors(read_weights(file)) for file in files]
    inputs = {}
    for name, given in network.inputs.items():
        described = given.describe()
        kind = described['type']
        if kind not in INPUTS:
            raise Mistake(f'{name} is a {kind}, which cannot be exported; only {" and ".join(INPUTS)} can')
        numbers = 'the place among the values, from 0' if kind == 'Categorical' else 'the value'
        inputs[name] = {**described, 'layout': 'N, float32', 'number': numbers, 'missing': 'NaN'}
    return {
        'format_version': FORMAT_VERSION,
        'mmskin_version': mmskin.__version__,
        'model': config_name(cfg.filename),
        SEAL: UNSEALED,
        'weights_sha256': hashes[0] if len(hashes) == 1 else hashes,
        'input': describe_input(cfg),
        'inputs': inputs,
        'test_time_augmentation': {'default': bool(cfg.get('tta')), **cfg.get('tta_model', {})},
        'outputs': {output_name(task): task.describe(class_names(cfg, task.target)) for task in network.tasks},
    }


def describe_input(cfg: Config) -> dict[str, Any]:
    """How an image becomes the network's input."""
    pipeline = tested_dataset(cfg).pipeline
    names = [TRANSFORMS.get(step['type']).__name__ for step in pipeline]
    size = pipeline[0].get('size')
    if names != [name for name in PIPELINE if name in names] or 'ResizeImage' not in names or not size:
        raise Mistake(f'{cfg.filename}: only a test pipeline of {", ".join(PIPELINE)} can be exported, not {names}')
    prepare = dict(member_configs(cfg.model)[0].get('data_preprocessor') or {})  # all prepare images alike
    kind = prepare.pop('type', None)
    if not kind or MODELS.get(kind) is not ImgDataPreprocessor or prepare.keys() != {'mean', 'std'}:
        raise Mistake(f'{cfg.filename}: only an ImgDataPreprocessor with mean and std can be exported')
    return {
        'name': 'images',
        'layout': 'NCHW, float32',
        'size': TRANSFORMS.build(pipeline[names.index('ResizeImage')]).size or size,
        'orientation': 'upright, by its EXIF tag',
        'channel_order': 'RGB',
        'resize': 'to size x size, whatever the aspect ratio: cv2.INTER_AREA if the shorter side is longer than size, '
        'else cv2.INTER_LINEAR',
        'value_range': [0, 255],
        **{key: list(map(float, values)) for key, values in prepare.items()},  # (image - mean) / std
    }


@torch.no_grad()
def check_against(network: Probabilities, session: Session, size: int) -> float:
    """The largest difference between what ``session`` and torch make of random images, in batches of several sizes."""
    generator, differences = torch.Generator().manual_seed(0), [0.0]
    for count in BATCH_SIZES:
        coarse = torch.randn(count, 3, 8, 8, generator=generator)  # blots, since all noise looks alike to a network
        images = nn.functional.interpolate(coarse, (size, size), mode='bicubic')
        values = {}
        for name, given in network.inputs.items():
            numbers = torch.tensor([math.nan, *given.examples()])
            values[name] = numbers[torch.randint(len(numbers), (count,), generator=generator)]
        outputs = session.run(images.numpy(), {name: value.numpy() for name, value in values.items()})
        for name, expected in network(images, values).items():
            for answer, whose in ((expected.numpy(), 'the network'), (outputs[name], 'the exported file')):
                if not np.isfinite(answer).all():
                    raise Mistake(f'{session.path}: {whose} gives {name} that are not finite; export other weights')
            differences.append(float(np.abs(outputs[name] - expected.numpy()).max()))
    largest = max(differences)
    if not largest <= TOLERANCE:
        raise Mistake(f'{session.path}: differs from torch by {largest:.1e}, which is above {TOLERANCE:.0e}')
    return largest
