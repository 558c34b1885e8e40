"""Transforms of other packages, held to the contract of ours: a sample's masks move as its image does.

``mmcv``, ``mmseg`` and ``mmpretrain`` by their scope, ``albumentations.HorizontalFlip`` and
``torchvision.transforms.v2.RandomRotation`` by their full names: each is one line of a pipeline.
"""

import copy
import inspect
import os
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from torchvision import tv_tensors

from mmskin.datasets.transforms.loading import LoadImage, LoadMask, PackTaskSample, ResizeImage
from mmskin.errors import LIBRARIES, Mistake, in_one_line, needs
from mmskin.registry import TRANSFORMS, home_scope

ALBUMENTATIONS, TORCHVISION = 'albumentations', 'torchvision.transforms.v2'
# mmpretrain's, which know no masks; its others leave pixels where they are
MOVING = ('EfficientNetCenterCrop', 'RandomCrop', 'RandomResizedCrop', 'ResizeEdge', 'Rotate', 'Shear', 'Translate')
OURS = {
    'LoadAnnotations': 'LoadMask',
    'LoadImageFromFile': 'LoadImage, which gives RGB',
    'PackInputs': 'PackTaskSample',
    'PackSegInputs': 'PackTaskSample',
}
FIRST_CODE = 101  # of what is in a mask: no value that a transform is likely to fill its frame with
PROBES = 12


class Foreign(BaseTransform):
    """A transform of another package, which moves the masks of a sample as it moves the image.

    It gets one map with a code for each combination of the masks' values, at the image's size. A value of the result
    that is no code lies outside the frame, and is 0 in each mask.

    Args:
        step: the transform.
    """

    def __init__(self, step: Callable) -> None:
        self.step = step

    def __repr__(self) -> str:
        return repr(self.step)

    def transform(self, results: dict) -> dict | None:
        """Replace ``img``, ``img_shape`` and the masks."""
        masks: dict[
            str, tuple[np.ndarray, int | None]
        ] = {}  # planes (C, H, W), and the axis that they are stacked along
        sizes = {tuple(results[key]) for key in ('img_shape', 'ori_shape') if key in results}
        for key, value in results.items():
            if not (key.startswith('gt_') and isinstance(value, np.ndarray) and value.dtype.kind in 'biu'):
                continue
            if value.ndim == 2:
                masks[key] = value[None], None
            elif value.ndim == 3 and value.shape[1:] in sizes:
                masks[key] = value, 0
            elif value.ndim == 3:
                masks[key] = value.transpose(2, 0, 1), 2
        if not masks:
            moved = self.move(results, None)
            return moved and {**moved, 'img_shape': moved['img'].shape[:2]}
        size = results['img'].shape[1::-1]
        planes = [
            plane if plane.shape[::-1] == size else cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST)
            for stack, _ in masks.values()
            for plane in stack.astype(np.uint8)
        ]
        codes, values = encode(planes)
        moved = self.move({key: value for key, value in results.items() if key not in masks}, codes)
        if moved is None:  # as a pipeline drops a sample
            return None
        decoded = iter(values[:, moved.pop('codes')])  # (h, w) each
        for key, (stack, axis) in masks.items():
            followed = [next(decoded) for _ in stack]
            mask = followed[0] if axis is None else np.stack(followed, axis)
            moved[key] = np.ascontiguousarray(mask, results[key].dtype)
        return {**moved, 'img_shape': moved['img'].shape[:2]}

    def move(self, results: dict, codes: np.ndarray | None) -> dict | None:
        """The results with another ``img`` and, where there are masks, the ``codes`` (h, w) moved with it."""
        raise NotImplementedError


def encode(planes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The codes (h, w), uint8, and the value of each plane by code, (K, 256)."""
    joined = np.zeros(planes[0].shape, np.int64)
    for plane in planes:
        joined = joined * (int(plane.max(initial=0)) + 1) + plane
    _, first, codes = np.unique(joined, return_index=True, return_inverse=True)
    if FIRST_CODE + len(first) > 255:
        raise Mistake(
            f"the masks of an image have {len(first)} combinations of values, too many for other packages' transforms; "
            'use RandomWarp'
        )
    values = np.zeros((len(planes), 256), np.uint8)
    values[:, FIRST_CODE : FIRST_CODE + len(first)] = [plane.ravel()[first] for plane in planes]
    return (codes.reshape(joined.shape) + FIRST_CODE).astype(np.uint8), values


class OfLabelMaps(Foreign):
    """A transform of mmcv, mmseg or their like, which move ``gt_seg_map`` or what ``seg_fields`` names."""

    def move(self, results: dict, codes: np.ndarray | None) -> dict | None:
        if codes is None:
            return self.step(results)
        moved = self.step({**results, 'gt_seg_map': codes, 'seg_fields': ['gt_seg_map']})
        if moved is not None:
            moved.pop('seg_fields', None)
            moved['codes'] = moved.pop('gt_seg_map')
        return moved


class OfImages(Foreign):
    """A transform of mmpretrain that moves the image alone: it is repeated for the masks, with the same draws."""

    def move(self, results: dict, codes: np.ndarray | None) -> dict | None:
        if codes is None:
            return self.step(results)
        exact = copy.copy(self.step)
        for name, value in dict(interpolation='nearest', pad_val=0, backend='cv2').items():
            if hasattr(exact, name):
                setattr(exact, name, value)
        with same_draws():
            followed = exact({'img': codes, 'img_shape': codes.shape})
        moved = self.step(results)
        return moved and {**moved, 'codes': followed['img']}


class OfAlbumentations(Foreign):
    """A transform of albumentations, with a seed from the sample's: its generator is its own."""

    def move(self, results: dict, codes: np.ndarray | None) -> dict | None:
        if hasattr(self.step, 'set_random_seed'):  # from 1.4.21 on; before, it drew from numpy's and Python's
            self.step.set_random_seed(int(np.random.randint(2**31)))
        given = {} if codes is None else {'mask': codes}
        moved = self.step(image=results['img'], **given)
        return {**results, 'img': moved['image'], **({} if codes is None else {'codes': moved['mask']})}


class OfTorchvision(Foreign):
    """A transform of torchvision's second version, which draws from torch's generator, seeded as ours are."""

    def move(self, results: dict, codes: np.ndarray | None) -> dict | None:
        image = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1))))
        given = [image] if codes is None else [image, tv_tensors.Mask(torch.from_numpy(codes[None]))]
        moved = self.step(*given)
        first, *rest = [moved] if codes is None else moved
        pixels = np.ascontiguousarray(first.permute(1, 2, 0).numpy())
        return {**results, 'img': pixels, **({} if codes is None else {'codes': rest[0][0].numpy()})}


@contextmanager
def same_draws() -> Iterator[None]:
    """Put the generators back after the block, so that what follows draws as the block did."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def carry_masks(step: Any) -> Callable:
    """A transform as pipelines call it: of ours and of the user's as it is, of another package held to the contract."""
    kind = type(step)
    modules = [base.__module__ for base in kind.__mro__]
    if kind.__module__.startswith('mmskin.') or isinstance(step, Foreign):
        return step
    if any(module.startswith(f'{ALBUMENTATIONS}.') for module in modules):
        return OfAlbumentations(step)
    if any(module.startswith(f'{TORCHVISION}.') for module in modules):
        return OfTorchvision(step)
    if kind.__module__.startswith('torchvision.'):
        raise Mistake(f'{kind.__module__}.{kind.__name__} leaves masks as they are; take {TORCHVISION}.{kind.__name__}')
    inner = getattr(step, 'transforms', None)
    if isinstance(inner, list) and any(isinstance(part, BaseTransform) for part in inner):  # as RandomApply has
        step.transforms = [carry_masks(part) if isinstance(part, BaseTransform) else part for part in inner]
        return step
    if home_scope(kind, TRANSFORMS.root) == 'mmpretrain':
        moves = any(base.__module__.startswith('mmpretrain.') and base.__name__ in MOVING for base in kind.__mro__)
        return OfImages(step) if moves else step
    is_of_mmcv = kind.__module__.startswith('mmcv.')
    return OfLabelMaps(step) if is_of_mmcv or home_scope(kind, TRANSFORMS.root) else step


def build_step(build: Callable, cfg: Any, *args: Any, **kwargs: Any) -> Callable:
    """Build a transform from its config, in ``transforms`` of albumentations and torchvision as well."""
    kind = cfg.get('type') if isinstance(cfg, Mapping) else None
    name = f'{kind.__module__}.{kind.__name__}' if inspect.isclass(kind) else str(kind)
    short = name.rpartition('.')[2]
    if short in OURS and not name.startswith('mmskin.'):
        raise Mistake(f'{name} does not return what mmskin needs; use {OURS[short]}')
    if not name.startswith((f'{ALBUMENTATIONS}.', f'{TORCHVISION}.')):
        return carry_masks(build(cfg, *args, **kwargs))
    if name.startswith(f'{ALBUMENTATIONS}.'):
        os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')  # or its import asks the web for a newer version
        needs(ALBUMENTATIONS, ALBUMENTATIONS)
    nested = cfg.get('transforms')
    if isinstance(nested, list | tuple):
        parts = [build_step(build, part, **kwargs) if isinstance(part, Mapping) else part for part in nested]
        cfg = {**cfg, 'transforms': [part.step if isinstance(part, Foreign) else part for part in parts]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        step = build(cfg, *args, **kwargs)
    if wrong := [text for text in (str(warning.message) for warning in caught) if 'not valid for transform' in text]:
        raise Mistake(f'{name}: {wrong[0]}')
    return carry_masks(step)


TRANSFORMS.build_func = partial(build_step, TRANSFORMS.build_func)


def build_pipeline(pipeline: Iterable[dict | Callable]) -> list[Callable]:
    """The steps of a data set, of their configs or as they are, held to the contract of masks.

    Each step of others is tried on a picture with a mask, and each step of all before the mask is loaded.

    Raises:
        Mistake: if one moves the image and not the mask, gives no image of bytes, which the network normalises, or
            takes no image with a mask at all.
    """
    steps = [TRANSFORMS.build(step) if isinstance(step, dict) else carry_masks(step) for step in pipeline]
    loads = [number for number, step in enumerate(steps) if isinstance(step, LoadMask)]
    for number, step in enumerate(steps) if loads else ():
        is_ours = type(step).__module__.startswith('mmskin.') and not isinstance(step, Foreign)
        is_early = number < loads[0]
        if isinstance(step, LoadImage | LoadMask | ResizeImage | PackTaskSample) or (is_ours and not is_early):
            continue
        probed = [probe(step, seed, has_mask=not is_early) for seed in range(PROBES)]
        agreements = [agreement for agreement in probed if agreement is not None]
        if not agreements:
            raise Mistake(f'{name_of(step)} returns None for every image; return the dict')
        if sum(agreement < 0.5 for agreement in agreements) > 1:
            raise Mistake(
                f'{name_of(step)} moves the image before LoadMask reads the mask; put LoadMask before it'
                if is_early
                else f'{name_of(step)} moves the image and leaves the mask where it was; use RandomWarp, or a '
                f'transform of mmseg, {ALBUMENTATIONS} or {TORCHVISION}'
            )
    return steps


def name_of(step: Callable) -> str:
    """A step as its user may have named it."""
    kind = type(step.step if isinstance(step, Foreign) else step)
    package = TORCHVISION if kind.__module__.startswith(TORCHVISION) else kind.__module__.partition('.')[0]
    return kind.__name__ if package == 'mmskin' else f'{package}.{kind.__name__}'


def probe(step: Callable, seed: int, has_mask: bool) -> float | None:
    """How well image and mask still agree after a step: 0 to 1, 1 where that is open, None if it leaves them out."""
    generator = np.random.default_rng(seed)
    is_lesion = np.kron(generator.uniform(size=(12, 12)) < 0.4, np.ones((8, 8))) > 0
    image = np.where(is_lesion[..., None], (90, 60, 50), (190, 150, 130)).astype(np.uint8)
    mask = np.where(is_lesion, 1, 2).astype(np.uint8)  # 0 is what lies outside the frame
    results: dict[str, Any] = dict(img=image, img_shape=mask.shape, ori_shape=mask.shape, input_size=96, gt_label=0)
    step = copy.deepcopy(step)
    parts: tuple[Any, ...] = (step, getattr(step, 'step', None))
    for part in parts:
        if isinstance(getattr(part, 'prob', None), float):
            part.prob = 1.0  # what it rarely does counts, too
    with same_draws():
        np.random.seed(seed)
        random.seed(seed)
        torch.default_generator.manual_seed(seed)
        try:
            results = step({**results, **({'gt_seg_map': mask} if has_mask else {})})
        except Mistake:
            raise
        except Exception as error:
            if type(step).__module__.partition('.')[0] in LIBRARIES | {'mmskin'}:
                short = name_of(step).rpartition('.')[2]
                other = short if short in ('AutoAugment', 'RandAugment') else 'RandAugment'
                raise Mistake(
                    f'{name_of(step)} does not work in a pipeline with masks ({in_one_line(error)}); use RandomWarp '
                    f'or mmpretrain.{other}, whose masks follow'
                ) from error
            return 1.0  # a user's own may take what the data give besides
    if results is None:
        return None
    if not isinstance(results, Mapping):
        raise Mistake(f'{name_of(step)} returns {type(results).__name__}; return the dict')
    if 'img' not in results:
        return 1.0
    image, mask = results['img'], results.get('gt_seg_map', mask)
    if not isinstance(mask, np.ndarray):
        raise Mistake(f'{name_of(step)} gives {type(mask).__name__} as gt_seg_map; a mask stays uint8 (h, w)')
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        given = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
        raise Mistake(
            f'{name_of(step)} gives {given}; an image stays uint8 (h, w, 3), since the data_preprocessor normalises it'
        )
    moved = cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    levels, labels = image[moved > 0], moved[moved > 0]
    if isinstance(step, OfAlbumentations | OfTorchvision) and has_mask:
        return 1.0  # they move masks with images; a strong blur may look as if one had moved
    with np.errstate(invalid='ignore', divide='ignore'):
        correlations = [abs(np.corrcoef(channel, labels)[0, 1]) for channel in levels.T if len(labels)]
    return float(np.nanmax(correlations)) if np.isfinite(correlations).any() else 1.0
