"""Running an exported network, in ONNX Runtime or OpenVINO, as if it were the one that was trained."""

import hashlib
import inspect
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel, ModuleDict
from torch import Tensor

from mmskin.errors import MissingFile, Mistake, hidden, needs, refusals
from mmskin.files import check_readable, write_whole
from mmskin.models.fusion import Input, values_of
from mmskin.models.tasks.task import Task
from mmskin.registry import MODELS, checked
from mmskin.structures import TaskSample, names_key

FORMAT_VERSION = 1
METADATA_KEY = 'mmskin'
SEAL = 'file_sha256'  # in the description: of the file, as if this said UNSEALED
UNSEALED = '0' * 64
STATED = re.compile(rb'(?<=file_sha256)((?:"|&quot;): (?:"|&quot;))([0-9a-f]{64})')  # in ONNX and in XML
OF_TASKS = ('post', 'target', 'lengths', 'threshold')  # options that a task predicts with
VIEWS = ('flips', 'zooms', 'crops', 'pairs')
NEEDED = {'input': ('size', 'mean', 'std'), 'test_time_augmentation': ('default',)}
NEEDED_OF_OUTPUT = ('task', 'type')
INPUTS = {'Numeric': ('minimum', 'maximum', 'edges', 'mean', 'std'), 'Categorical': ('values',)}
NOTHING: Mapping[str, np.ndarray] = {}
POST = ('Dilate', 'FillHoles', 'LargestComponent')


class Session(NamedTuple):
    """An exported file, opened.

    Attributes:
        path: The file.
        description: What it says of itself.
        run: From normalised images, float32 (N, 3, h, w), and the values of the inputs next to them, float32 (N,) by
            name, to its outputs by name. Inputs that are left out are unknown.
    """

    path: Path
    description: dict[str, Any]
    run: Callable[..., dict[str, np.ndarray]]


def is_exported(path: str | Path) -> bool:
    """Whether ``path`` names an exported network, by its suffix."""
    return Path(path).suffix in OPENERS


@checked
def open_session(path: str | Path) -> Session:
    """Open an exported file: ``.onnx`` in ONNX Runtime, ``.xml`` in OpenVINO.

    Raises:
        MissingFile: if there is no such file.
        Mistake: if it is damaged, or mmskin did not write it.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFile(f'{path}: no such file; write one by "mmskin export"')
    check_readable(path)
    stated, digest = digests(path)
    if stated not in ('', digest):
        raise Mistake(f'{path}: damaged, or the .bin next to it is another file; export it again')
    text, run = OPENERS[path.suffix](path)
    if not text:
        raise Mistake(f'{path}: does not say how its images are prepared; export it by "mmskin export"')
    try:
        description = json.loads(text)
        wanted = [(part, description.get(part, ()), keys) for part, keys in NEEDED.items()]
        outputs = description.get('outputs') or {'<task>': {}}
        wanted += [(f'outputs.{name}', output, NEEDED_OF_OUTPUT) for name, output in outputs.items()]
        wrong = ', '.join(f'no {part}.{key}' for part, there, keys in wanted for key in keys if key not in there)
        if not wrong and description.get('format_version') != FORMAT_VERSION:
            wrong = f'format {description.get("format_version")}, not {FORMAT_VERSION}'
        if not wrong:
            prepared = description['input']
            int(prepared['size'])
            if not all(map(math.isfinite, [*prepared['mean'], *prepared['std']])) or min(prepared['std']) <= 0:
                wrong = f'mean {prepared["mean"]} and std {prepared["std"]}'
            for output in description['outputs'].values():
                if len({*(classes := output.get('classes', []))}) < len(classes):
                    wrong = f'classes {classes}'
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        wrong = str(error)
    if wrong:
        raise Mistake(f'{path}: its description is not what "mmskin export" writes ({wrong}); export it again')
    if not stated:
        raise Mistake(f'{path}: has no checksum, so it is damaged or of an earlier mmskin; export it again')
    return Session(path, description, run)


def digests(path: Path) -> tuple[str, str]:
    """The SHA-256 that an exported file states, '' if none, and its own, with that of an OpenVINO file's weights."""
    content = path.read_bytes()
    stated = STATED.search(content)
    digest = hashlib.sha256(STATED.sub(rb'\g<1>' + UNSEALED.encode(), content, count=1))
    if path.suffix == '.xml' and (weights := path.with_suffix('.bin')).is_file():
        digest.update(weights.read_bytes())
    return stated[2].decode() if stated else '', digest.hexdigest()


def seal(path: Path) -> None:
    """Let an exported file state its SHA-256."""
    _, digest = digests(path)
    write_whole(path, STATED.sub(rb'\g<1>' + digest.encode(), path.read_bytes(), count=1))


def open_onnx(path: Path) -> tuple[str, Callable]:
    """The description of an ONNX file, and how to run it, in as many threads as PyTorch has."""
    runtime = needs('onnxruntime', 'onnx')
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')  # they would wait with a core at work
    try:
        session = runtime.InferenceSession(path, options, providers=runtime.get_available_providers())
    except Exception as error:  # its exceptions have no common base of their own
        raise Mistake(f'{path}: damaged, or not an ONNX file ({error}); export it again') from error
    names = [output.name for output in session.get_outputs()]
    beside = [entry.name for entry in session.get_inputs() if entry.name != 'images']

    def run(images: np.ndarray, values: Mapping[str, np.ndarray] = NOTHING) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, with_unknown(images, values, beside)), strict=True))

    return session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, ''), run


@cache
def openvino_core() -> Any:
    """OpenVINO, once for the process and never let go.

    Its CPU plugin gives the thread that loads it an alternative signal stack, and frees that stack with itself. If that
    happens in another thread, the next signal, such as the end of a child process, ends the process.
    """
    return import_openvino().Core()


def import_openvino() -> ModuleType:
    """OpenVINO without its reports to its makers, which begin as it is imported, and which no setting stops.

    Where somebody else imports it first, they are theirs to choose.

    Raises:
        MissingLibrary: if it is not installed.
    """
    with hidden('openvino_telemetry'):  # it does without
        return needs('openvino', 'openvino')


def openvino_options() -> dict[str, str | int]:
    """What OpenVINO compiles and imports with: as many threads as PyTorch, and no bfloat16 where a CPU has it."""
    return {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': torch.get_num_threads()}


def open_openvino(path: Path) -> tuple[str, Callable]:
    """The description of an OpenVINO file, and how to run it on the CPU."""
    try:
        model = openvino_core().read_model(path)
        compiled = openvino_core().compile_model(model, 'CPU', openvino_options())
        text = str(model.get_rt_info(METADATA_KEY).value) if model.has_rt_info(METADATA_KEY) else ''
    except (RuntimeError, UnicodeDecodeError) as error:
        raise Mistake(f'{path}: damaged, or not an OpenVINO file ({error}); export it again') from error
    names = [output.any_name for output in compiled.outputs]
    beside = [entry.any_name for entry in compiled.inputs if 'images' not in entry.names]

    def run(images: np.ndarray, values: Mapping[str, np.ndarray] = NOTHING) -> dict[str, np.ndarray]:
        request = compiled.create_infer_request()  # one's own: threads cannot share one
        outputs = request.infer(with_unknown(images, values, beside))
        return {name: outputs[name] for name in names}

    return text, run


def with_unknown(images: np.ndarray, values: Mapping[str, np.ndarray], beside: Sequence[str]) -> dict[str, np.ndarray]:
    """All that a file is fed: the images, and the inputs ``beside`` them, NaN where nobody gave a value."""
    unknown = np.full(len(images), np.nan, np.float32)
    return {'images': images, **{name: values.get(name, unknown) for name in beside}}


OPENERS = {'.onnx': open_onnx, '.xml': open_openvino}


@checked
def exported_config(path: str | Path) -> Config:
    """A config that predicts with an exported network; it is made here, so that the file has no say in what runs."""
    description = open_session(path).description
    prepared, outputs = description['input'], description['outputs'].values()
    named = [output for output in outputs if 'classes' in output]
    names = {names_key(output.get('target', 'gt_label')): tuple(output['classes']) for output in named}
    pipeline = [dict(type='LoadImage', size=int(prepared['size'])), dict(type='ResizeImage')]
    dataset = dict(
        type='ISIC2017Dataset',
        data_root='data/isic2017',
        split='test',
        metainfo={'classes': (), **names},
        pipeline=[*pipeline, dict(type='PackTaskSample')],
    )
    cfg = dict(model=dict(type='ExportedNetwork', file=str(path)), test_dataloader=dict(dataset=dataset))
    views = description['test_time_augmentation']
    tta = dict(tta=bool(views['default']), tta_model={key: views[key] for key in VIEWS if key in views})
    return Config(dict(default_scope='mmskin', **cfg, **tta), cfg_text=json.dumps(description), filename=str(path))


@MODELS.register_module()
class ExportedNetwork(BaseModel):
    """A network that ``mmskin export`` wrote; it predicts and does not train.

    Args:
        file: ``.onnx`` or ``.xml``.
    """

    def __init__(self, file: str) -> None:
        session = open_session(file)
        prepared = session.description['input']
        super().__init__(dict(type='mmengine.ImgDataPreprocessor', mean=prepared['mean'], std=prepared['std']))
        self.session = session
        self.outputs = {output['task']: name for name, output in session.description['outputs'].items()}
        self.inputs: dict[str, Input] = {}
        for name, described in session.description.get('inputs', {}).items():
            kind = described.get('type', '')
            if kind not in INPUTS:  # nothing but what mmskin exports
                raise Mistake(f'the exported file asks for an input {kind}, which mmskin does not write')
            known = {key: described[key] for key in ('type', *INPUTS[kind]) if key in described}
            self.inputs[name] = MODELS.build(known)
        self.tasks = ModuleDict({o['task']: build_task(o) for o in session.description['outputs'].values()})
        for name, task in self.tasks.items():
            task.name = name

    def forward(
        self, inputs: Tensor, data_samples: list[TaskSample] | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[TaskSample]:
        """Predict for normalised images (N, 3, h, w): 'tensor' gives the estimates by task, 'predict' the samples."""
        values = {name: value.numpy() for name, value in values_of(self.inputs, data_samples or ()).items()}
        assert mode == 'tensor' or data_samples is not None, 'an exported network can only predict samples'
        with refusals(f'{self.session.path}: runs otherwise than it says, so export it again'):
            outputs = self.session.run(np.ascontiguousarray(inputs.cpu().numpy()), values if data_samples else {})
            estimates = {task: torch.from_numpy(outputs[name]).to(inputs.device) for task, name in self.outputs.items()}
            if mode == 'tensor':
                return estimates
            for name, estimate in estimates.items():
                self.tasks[name].write(estimate, data_samples)
        return data_samples or []


def build_task(output: dict[str, Any]) -> Task:
    """The task that decides by an output; it has no head, since that is in the file."""
    options = {key: output[key] for key in OF_TASKS if output.get(key)}
    MODELS.import_from_location()
    kind = MODELS.module_dict.get(output['type'])  # not `get`, which would import what a dotted name asks for
    steps = {step.get('type') for step in options.get('post', ())}
    if not (inspect.isclass(kind) and issubclass(kind, Task)) or not steps <= {*POST}:
        raise Mistake(f'the exported file asks for {output["type"]} with {options}, which mmskin does not write')
    return MODELS.build(dict(type=output['type'], head=dict(type='torch.nn.Identity'), **options))
