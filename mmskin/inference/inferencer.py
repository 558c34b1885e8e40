"""Predicting for images of one's own."""

import io
import json
import math
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import cv2
import numpy as np
import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from PIL import Image
from torch import Tensor

import mmskin
from mmskin.config import class_names, load_config, tested_dataset, tested_metainfo
from mmskin.datasets.inputs import check_listed, input_columns, read_inputs
from mmskin.datasets.transforms.loading import LoadImage, check_packed
from mmskin.engine.checkpoints import find_checkpoint, find_checkpoints
from mmskin.engine.runner import ChannelsLast
from mmskin.errors import Mistake, refusals
from mmskin.files import ZOO, SpooledDict, check_name
from mmskin.inference.compiled import compile_network
from mmskin.inference.exported import ExportedNetwork, exported_config, is_exported
from mmskin.inference.image_sources import ImageSource, Inputs, find_images, is_single
from mmskin.inference.novelty import NOVELTY_FILE, Novelty, shared_features
from mmskin.inference.prediction import FailedImage, LesionPrediction
from mmskin.inference.zoo import DEFAULT_MODEL, FILES, config_of, model_folder
from mmskin.models.averaging import AT_ONCE, TestTimeAugmentation, load_members, networks_in
from mmskin.models.convolutions import fold_batch_norms
from mmskin.models.fusion import Input
from mmskin.models.tasks.segmentation import Segmentation
from mmskin.models.tasks.task import Task
from mmskin.models.watch import GateRates, unwrap, watched
from mmskin.models.weights import HASH, read_metadata, without_lookups
from mmskin.registry import HOOKS, MODELS, TRANSFORMS, checked, refuse_values
from mmskin.structures import is_known, not_finite

Metadata: TypeAlias = str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any] | None]
Item = TypeVar('Item', LesionPrediction, dict)
PROBE = 224  # pixels a side of what a network is tried on whose images keep their size
MAX_PIXELS = 64_000_000  # in a batch, of the original images: their masks are held at that size


class LesionInferencer(ModelHubMixin, library_name='mmskin', tags=['dermoscopy']):
    """Names the disease and outlines the lesion in images of any kind and size, from any number of threads at once.

    Args:
        model: A model folder, the name of a model that comes with mmskin (the default is one), what ``mmskin export``
            wrote (.onnx for ONNX Runtime, .xml for OpenVINO), or, with ``checkpoint``, a config.
            Of several, the mean of their predictions.
        checkpoint: A checkpoint file or the work folder of a finished training, in place of the model's weights; of
            several, or of a folder of folds, the mean of their predictions.
        device: Such as 'cuda:1'; a GPU if there is one. 'openvino' is the CPU with OpenVINO, about twice as fast and
            the same up to rounding. The first time that takes ten seconds on a machine, and from then on it is this
            network's default there, without a GPU; where OpenVINO is installed, it is so for a model that comes with
            mmskin from the first time. 'cpu' is PyTorch.
        tta: Average over several views of each image; as the model's config says by default. Its ``tta_model`` says
            which views, if not the flips alone.
        post: What is done to each mask, in order, e.g. ``['FillHoles', 'LargestComponent']`` or configs such as
            ``dict(type='Dilate', radius=0.02)``; as the model's config says by default.
        batch_size: Images at a time.

    A model folder may lie on the Hugging Face Hub: ``LesionInferencer.from_pretrained('owner/name')`` fetches it, with
    ``trust_remote_code=True``, since a model's config is Python; ``push_to_hub('owner/name')`` puts one there.

    Raises:
        MissingFile: if model or checkpoint are missing.
        Mistake: if the weights are not the model's, or a setting does not fit it or this machine.

    Example:
        >>> inferencer = LesionInferencer()
        >>> prediction = inferencer('photo.jpg')
        >>> prediction.label, prediction.mask.sum()
        >>> [other.label for other in inferencer(['a.jpg', 'folder', array])]
    """

    def __init__(
        self,
        model: str | Path | Sequence[str | Path] | None = None,
        checkpoint: str | Path | Sequence[str | Path] | None = None,
        device: str | torch.device | None = None,
        tta: bool | None = None,
        post: Sequence[str | dict] | None = None,
        batch_size: int = 8,
    ) -> None:
        settings = dict(model=model, checkpoint=checkpoint, device=device, tta=tta, post=post, batch_size=batch_size)
        refuse_values(LesionInferencer, settings)
        self.cfg, files = read_models(model, checkpoint)
        self.files = files
        self.tta = bool(self.cfg.get('tta')) if tta is None else tta
        self.batch_size = batch_size
        with refusals(str(self.cfg.filename)):
            self.load, self.steps = test_steps(self.cfg)
            self.network: BaseModel = build_network(self.cfg, self.tta)
        if files:
            load_members(self.network, files, tested_metainfo(self.cfg))
        if post is not None:
            outlining = [part for part in self.network.modules() if isinstance(part, Segmentation)]
            if post and not outlining:
                raise Mistake(f'post={list(post)}: this model outlines nothing')
            for task in outlining:
                task.set_post(post)
        place = find_device('cpu' if device == 'openvino' else device)
        self.network.eval().to(place)
        size = self.load.size or PROBE
        self.inner = unwrap(self.network)
        self.networks = networks_in(self.inner)
        views = len(self.network.views) if isinstance(self.network, TestTimeAugmentation) else 1
        if device == 'openvino' and not self.networks:
            raise Mistake(f'{self.cfg.filename}: an exported network has its own runtime; leave device="openvino" out')
        for network in self.networks:
            probe = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
            fold_batch_norms(network, probe.to(place))
            if device == 'openvino' or (device is None and place.type == 'cpu'):
                required, shipped = device == 'openvino', all(file.is_relative_to(ZOO) for file in files)
                is_first = network is self.networks[0]
                compile_network(network, size, min(views, AT_ONCE), shipped, required, with_features=is_first)
        self.tasks = {part.name: part for part in self.network.modules() if isinstance(part, Task)}
        with refusals(str(self.cfg.filename)):
            self.names = {name: class_names(self.cfg, task.target) for name, task in self.tasks.items()}
        self.passes = any(network.passing_by_site() for network in self.networks)
        self.novelty: Novelty | None = None  # what the training images are like to the network of a model's one file
        if self.networks and len(files) == 1 and (path := files[0].with_name(NOVELTY_FILE)).is_file():
            self.novelty = Novelty.read(path, read_metadata(files[0]).get(HASH, ''))

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        trust_remote_code: bool = False,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **settings: Any,
    ) -> 'LesionInferencer':
        folder = model_id
        if not Path(model_id).is_dir():
            if not trust_remote_code:
                raise Mistake(
                    f'{model_id}: its config is Python, which runs as it is read, and somebody else wrote it; look at '
                    'it on the Hub, and if you trust its owner, give trust_remote_code=True'
                )
            folder = snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=[*map(str, FILES), NOVELTY_FILE],
            )
        return cls(**{**settings, 'model': Path(folder).absolute(), 'checkpoint': None})

    def _save_pretrained(self, save_directory: Path) -> None:
        here = self.files[0].parent if len(self.files) == 1 else Path('.')
        if len(self.files) != 1 or not all((here / name).is_file() for name in FILES):
            raise Mistake('only model folders go to the Hub; mmskin publish writes one')
        for name in (*FILES, NOVELTY_FILE):
            if (here / name).is_file():
                shutil.copy(here / name, save_directory)
        note = json.dumps({'library_name': 'mmskin', 'mmskin_version': mmskin.__version__})
        (save_directory / 'config.json').write_text(note + '\n', encoding='utf-8')  # by which the Hub counts downloads

    @property
    def diagnosis(self) -> str | None:
        """The task that gives ``LesionPrediction.label``: the only one that names a class, or that of ``gt_label``."""
        return self._main('classes')

    @property
    def outline(self) -> str | None:
        """The task that gives ``LesionPrediction.mask``: the only one that outlines, or that of ``gt_sem_seg``."""
        return self._main('masks')

    def _main(self, kind: str) -> str | None:
        """The only task of a kind, or the one that learns what this kind does by default; the order says nothing."""
        names = [name for name, task in sorted(self.tasks.items()) if task.kind == kind]
        usual = [name for name in names if self.tasks[name].target == type(self.tasks[name]).target]
        return next(iter(usual or (names if len(names) == 1 else [])), None)

    @property
    def classes(self) -> list[str]:
        """The names of what ``diagnosis`` tells apart; empty if there is none."""
        return self.names[self.diagnosis] if self.diagnosis else []

    def __call__(
        self, inputs: Inputs, lesion_probability: bool = False, metadata: Metadata | None = None
    ) -> LesionPrediction | list[LesionPrediction]:
        """Predict for one image, or for several: a folder, a pattern such as ``'photos/*.jpg'``, or a list of anything.

        Args:
            inputs: Paths, RGB arrays, PIL images or bytes. Of a folder, see ``find_images``.
            lesion_probability: With the map of probabilities, 4 bytes a pixel.
            metadata: What the network is given with the images, if it takes any: values for all images such as
                ``dict(age=55, sex='female')``, a list of these with one for each image, a dict of these by image id, or
                the path of a table (see ``read_metadata``). What is absent is unknown.

        Raises:
            MissingFile: if a file is missing, or a folder holds no image.
            Mistake: if an image cannot be read or has no finite answer, at which ``iterate`` goes on to the next; or if
                metadata make no sense.
        """
        predictions = [_or_raise(item) for item in self.iterate(inputs, lesion_probability, metadata)]
        return predictions[0] if is_single(inputs) else predictions

    def iterate(
        self, inputs: Inputs, lesion_probability: bool = False, metadata: Metadata | None = None
    ) -> Iterator[LesionPrediction | FailedImage]:
        """Predict one after the other, in order, holding no more than a batch; see ``__call__``.

        An image that cannot be read, or whose answer is not finite, gives a ``FailedImage``; the others are predicted.
        """
        for batch in self._batches(self._with_metadata(inputs, metadata)):
            predictions = iter(self._predict([item for item in batch if isinstance(item, dict)], lesion_probability))
            for item in batch:
                yield item if isinstance(item, FailedImage) else next(predictions)

    @property
    def inputs_beside(self) -> Mapping[str, Input]:
        """What the network can be given with an image, by name; nothing, for most."""
        networks = [self.inner] if isinstance(self.inner, ExportedNetwork) else self.networks
        return {name: given for network in reversed(networks) for name, given in network.inputs.items()}

    @checked
    def check_metadata(self, values: Mapping[str, Any], where: str = '') -> None:
        """Make sure that the network takes ``values``; errors begin with ``where``."""
        for name, value in values.items():
            if name not in self.inputs_beside:
                takes = ' and '.join(self.inputs_beside) or 'nothing'
                raise Mistake(f'{where}{name}: this network takes {takes} with the image; leave {name} out')
            self.inputs_beside[name].read(value, f'{where}{name}')

    @checked
    def read_metadata(self, table: str | Path, image_ids: Collection[str]) -> Mapping[str, dict[str, Any]]:
        """What a table says of images, by image id; images that it lacks are counted on the standard error.

        Args:
            table: A CSV with ``image_id``, ``image`` or ``isic_id``, and the inputs' columns: ``age``, or as ISIC's
                tables have it ``age_approx`` or ``age_approximate``. Empty and "unknown" cells are unknown.
            image_ids: Of the images.

        Raises:
            MissingFile: if there is no such table.
            Mistake: if it has none of the images or columns, or a value that makes no sense.
        """
        if not self.inputs_beside:
            raise Mistake(f'{table}: this network takes only images; leave the table out')
        columns = input_columns(Path(table), self.inputs_beside)
        rows = read_inputs(Path(table), columns, image_ids, 'check its name.')
        inputs = SpooledDict()
        for image_id, row in rows.items():
            for name, value in row['inputs'].items():
                self.inputs_beside[name].read(value, row['inputs_from'][name])
            inputs[image_id] = row['inputs']
        return inputs

    def _with_metadata(self, inputs: Inputs, metadata: Metadata | None) -> Iterator[ImageSource]:
        """The images with what ``metadata`` says of them."""
        if metadata is None:
            yield from find_images(inputs)
        elif isinstance(metadata, Mapping) and not any(isinstance(value, Mapping) for value in metadata.values()):
            yield from (replace(source, inputs=metadata) for source in find_images(inputs))
        else:
            sources = [*find_images(inputs)]
            if isinstance(metadata, str | Path | Mapping):  # by image id
                by_id: dict[str, str] = {}
                for source in sources:
                    if (other := by_id.setdefault(source.image_id, source.name)) != source.name:
                        raise Mistake(
                            f'{other} and {source.name} are both image {source.image_id}, of which metadata can say '
                            'one thing; give a list with a dict for each image'
                        )
                if isinstance(metadata, Mapping):
                    check_listed('metadata', metadata, by_id)
                else:
                    metadata = self.read_metadata(metadata, by_id)
                of_each = [metadata.get(source.image_id) for source in sources]
            elif not isinstance(metadata, Iterable):
                raise Mistake(f'metadata={metadata!r}; give a dict such as dict(age=55), a list of them, or a table')
            else:
                of_each = [*metadata]
                if len(sources) != len(of_each):
                    raise Mistake(f'metadata has {len(of_each)} entries for {len(sources)} images; give one for each')
            for source, values in zip(sources, of_each, strict=True):
                if not isinstance(values, Mapping | None):
                    raise Mistake(f'{source.name}: its metadata are {values!r}; give a dict, such as dict(age=55)')
                yield replace(source, inputs=values or {})

    @property
    def is_exported(self) -> bool:
        """Whether the network is an exported file, which has no gate rates and cannot be explained."""
        return isinstance(self.inner, ExportedNetwork)

    def inputs(self, inputs: Inputs) -> Tensor:
        """What the network sees of images: normalised (N, 3, H, W), on its device."""
        items = [_or_raise(self._read(source)) for source in find_images(inputs)]
        if not items:
            raise Mistake('no images; give one or more')
        batch = {key: [item[key] for item in items] for key in ('inputs', 'data_samples')}
        return self.inner.data_preprocessor(batch, False)['inputs']  # type: ignore[operator]

    def _batches(self, sources: Iterable[ImageSource]) -> Iterator[list[dict | FailedImage]]:
        batch: list[dict | FailedImage] = []
        pixels = 0
        for source in sources:
            item = self._read(source)
            size = math.prod(item['data_samples'].ori_shape) if isinstance(item, dict) else 0
            if batch and (len(batch) == self.batch_size or pixels + size > MAX_PIXELS):
                yield batch
                batch, pixels = [], 0
            batch.append(item)
            pixels += size
        if batch:
            yield batch

    def _read(self, source: ImageSource) -> dict | FailedImage:
        """The network's input and an empty sample, or what is wrong with the image."""
        path = str(source.path) if source.path else None
        size = self.load.size
        self.check_metadata(source.inputs, f'{source.name}: ')
        try:
            for part in source.image_id.split('/'):
                check_name(part, f'{source.name}: the image id')
            image, shape = source.read(size / self.load.smallest_crop if size else None)
            scale = source.scale()
        except (OSError, ValueError, ModuleNotFoundError) as error:
            return FailedImage(source.image_id, path, error)
        results: dict[str, Any] = dict(
            image_id=Path(source.image_id).name, img_path=path, img=image, ori_shape=shape, input_size=size
        )
        results['inputs'] = source.inputs
        plain = dict(results)
        if self.novelty and max(image.shape[:2]) > 300:
            # as the images are of which it was fitted; the sharpness of an original alone would make it unlike them
            file = io.BytesIO()
            small = cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA)
            Image.fromarray(small).save(file, 'JPEG', quality=90)
            plain['img'] = np.asarray(Image.open(file))
        for step in self.steps:
            results = step(results)
            plain = step(plain) if self.novelty else plain
        results = check_packed(results)
        results['compressed'] = plain.get('inputs') if self.novelty else None
        results['mm_per_pixel'] = scale
        results['image_id'] = source.image_id  # folders in front, too, which no sample's has
        return results

    def _predict(self, data: Sequence[dict], lesion_probability: bool) -> list[LesionPrediction | FailedImage]:
        if not data:
            return []
        gates = GateRates() if self.passes else None
        with torch.inference_mode(), watched(gates.note) if gates else nullcontext():
            samples = self.network.test_step({key: [item[key] for item in data] for key in ('inputs', 'data_samples')})
        rates_of_each = gates.by_image(len(samples)) if gates else [{} for _ in samples]
        novelties: Sequence[float | None] = [None] * len(data)
        if self.novelty is not None:  # how unlike the training images each is
            network = self.networks[0]
            compressed = [item['compressed'] for item in data]
            batch = {'inputs': compressed, 'data_samples': [item['data_samples'] for item in data]}
            inputs = network.data_preprocessor(batch, False)['inputs']
            novelties = self.novelty.of(shared_features(network, inputs)).tolist()
        predictions: list[LesionPrediction | FailedImage] = []
        for item, sample, rates, novelty in zip(data, samples, rates_of_each, novelties, strict=True):
            image_id = item['image_id']
            if wrong := not_finite(sample.predictions):
                text = f'{image_id}: the answer of the network is not finite ({" and ".join(wrong)}); use other weights'
                predictions.append(FailedImage(image_id, sample.img_path, Mistake(text)))
                continue
            known = {name: value for name, value in sample.get('inputs', {}).items() if is_known(value)}
            for name, value in known.items():
                if not isinstance(value, str | int | float):  # JSON has none of NumPy's numbers, and no Decimal
                    known[name] = value.item() if hasattr(value, 'item') else str(value)
            prediction = LesionPrediction(
                image_id, sample.img_path, tuple(sample.ori_shape), gates=rates, inputs=known, novelty=novelty
            )
            prediction.mm_per_pixel = item['mm_per_pixel']
            for name, task in self.tasks.items():
                if task.probability in sample:
                    answer = task.answer(sample, self.names[name], lesion_probability)
                    if name == self.diagnosis:
                        prediction.probabilities, prediction.label = answer.numbers, answer.label
                    elif name == self.outline and len(answer.masks) == 1:
                        (prediction.mask,) = answer.masks.values()
                        prediction.lesion_probability = next(iter(answer.maps.values()), None)
                    else:
                        prediction.others[name] = answer
            predictions.append(prediction)
        return predictions


@checked
def read_models(
    model: str | Path | Sequence[str | Path] | None,
    checkpoint: str | Path | Sequence[str | Path] | None,
    options: dict[str, Any] | None = None,
) -> tuple[Config, list[Path]]:
    """The config of one network or of an ensemble, with ``options``, and its weights unless exported files hold them.

    Raises:
        MissingFile: if one is missing.
        Mistake: if the networks do not go together.
    """
    models: list[str | Path | None] = [model] if model is None or isinstance(model, (str, Path)) else [*model]
    files: list[Path | None] = [None] if checkpoint is None else [*find_checkpoints(checkpoint)]
    if not models or not files:
        raise Mistake(f'{"model" if not models else "checkpoint"}=[]: name one or more, or leave it out')
    if len(models) > 1 and checkpoint is not None:
        raise Mistake(f'{", ".join(map(str, models))}: name several models, or several checkpoints of one config')
    networks: list[tuple[Config, Path | None]] = []
    for folder, file in product(models, files):
        if folder is None or not is_exported(folder):
            config, weights = model_files(folder, file)
            networks.append((load_config(config, options=options), weights))
        elif file is None:
            networks.append((exported_config(folder), None))
        else:
            raise Mistake(f'{folder} holds its weights; leave {file} out')
    cfg = networks[0][0]
    for other, _ in networks[1:]:
        if (class_names(other), tested_dataset(other).pipeline) != (class_names(cfg), tested_dataset(cfg).pipeline):
            raise Mistake(f'{other.filename}: has other classes than {cfg.filename}, or prepares images differently')
    if len(networks) > 1:
        cfg.model = dict(type='Ensemble', members=[config.model for config, _ in networks])
    held = [file for _, file in networks if file is not None]
    if held and len(held) < len(networks):
        raise Mistake('exported networks cannot be averaged with others; name one kind')
    return cfg, held


def model_files(model: str | Path | None, checkpoint: str | Path | None) -> tuple[Path, Path]:
    """The config and the weights that the arguments of ``LesionInferencer`` name."""
    if checkpoint is None:
        if model is not None and config_of(model) == Path(model):
            raise Mistake(f'{model}: a config has no weights; name a checkpoint, too')
        folder = model_folder(model or DEFAULT_MODEL)
        return folder.config, folder.weights
    if model is None:
        raise Mistake(f'{checkpoint}: name the config that the checkpoint was trained with, too, as model')
    return config_of(model), find_checkpoint(checkpoint)


def test_steps(cfg: Config) -> tuple[LoadImage, list[Callable]]:
    """The config's test pipeline: its first step, which is ours to do for any kind of image, and the others."""
    pipeline = tested_dataset(cfg).get('pipeline')
    if not pipeline:
        raise Mistake(f'{cfg.filename}: the test pipeline is empty; it has to begin with LoadImage')
    first, *others = (TRANSFORMS.build(step) for step in pipeline)
    if not isinstance(first, LoadImage):
        raise Mistake(f'the test pipeline of {cfg.filename} begins with {type(first).__name__}, not with LoadImage')
    return first, others


def build_network(cfg: Config, tta: bool) -> BaseModel:
    """The config's network, as it is tested, without looking up the weights that its training started from."""
    init_default_scope(cfg.get('default_scope', 'mmskin'))
    model = without_lookups(cfg.model)
    network = MODELS.build(
        dict(type='TestTimeAugmentation', **cfg.get('tta_model', {}), module=model) if tta else model
    )
    if any(HOOKS.get(hook['type']) is ChannelsLast for hook in cfg.get('custom_hooks', ())):
        network.to(memory_format=torch.channels_last)
    return network


def find_device(device: str | torch.device | None) -> torch.device:
    """The device that is named, or a GPU if there is one."""
    here = ['cpu', *(f'cuda:{number}' for number in range(torch.cuda.device_count()))]
    try:
        usual = 'cuda' if torch.cuda.is_available() else 'cpu'
        place = torch.device(usual if device is None else device)
        torch.zeros(1, device=place).item()  # which the device `meta` cannot
    except (AssertionError, RuntimeError, TypeError) as error:  # the first where torch has no CUDA
        raise Mistake(f'device={device}: not available here; available: {", ".join(here)}') from error
    return place


def _or_raise(item: Item | FailedImage) -> Item:
    if isinstance(item, FailedImage):
        raise item.error
    return item
