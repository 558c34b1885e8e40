"""Loading images and lesion masks."""

from pathlib import Path

from mmcv.transforms import BaseTransform

from mmskin.errors import Mistake
from mmskin.readers.images import MAX_PIXELS, read_image
from mmskin.readers.masks import read_mask
from mmskin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load ``img_path`` as upright RGB, decoding no more of a large JPEG than is needed.

    The EXIF orientation is applied, as every viewer and labelling tool does. Decoding at 1/2, 1/4 or 1/8 scale is part
    of JPEG; other formats are decoded in full and shrunk to the same size.

    Adds ``img`` (uint8, (h, w, 3)), ``img_shape`` (h, w), ``ori_shape`` (H, W), the size before the reduction, and
    ``input_size``, which tells the later steps what to resize to: a pipeline states its size here and nowhere else.

    Args:
        size: the network's input size in pixels; no side is reduced below it. None loads at full size.
        smallest_crop: the smallest side, as a fraction, that a later step crops; that much of the image still has
            ``size`` pixels.
        max_pixels: the largest image that is decoded.

    Raises:
        MissingFile: if the file is missing.
        Mistake: if it is truncated, no image, or larger than ``max_pixels``.
    """

    def __init__(self, size: int | None = None, smallest_crop: float = 1.0, max_pixels: int = MAX_PIXELS) -> None:
        if not 0 < smallest_crop <= 1:
            raise Mistake(f'smallest_crop={smallest_crop} of LoadImage is not within (0, 1].')
        self.size = size
        self.smallest_crop = smallest_crop
        self.max_pixels = max_pixels

    def transform(self, results: dict) -> dict:
        """Add the image and its sizes."""
        min_size = self.size / self.smallest_crop if self.size else None
        results['img'], results['ori_shape'] = read_image(Path(results['img_path']), min_size, self.max_pixels)
        results['img_shape'] = results['img'].shape[:2]
        results['input_size'] = self.size
        return results


@TRANSFORMS.register_module()
class LoadMask(BaseTransform):
    """Load ``seg_map_path``, if the sample has one, as ``gt_seg_map``: uint8 (H, W), 1 on the lesion and 0 off it.

    The mask keeps its file's size, which has to be ``ori_shape``.

    Raises:
        MissingFile: if the file is missing.
        Mistake: if it is of another size than the image, or none that ``read_mask`` takes.
    """

    def transform(self, results: dict) -> dict:
        """Add the mask."""
        path = results.get('seg_map_path')
        if path is None:
            return results
        mask = read_mask(path)
        height, width = results['ori_shape']
        if mask.shape != (height, width):
            raise Mistake(
                f'{path} is {mask.shape[1]}x{mask.shape[0]} pixels and its image {results["img_path"]} {width}x{height}'
                ' (upright, where EXIF says that it is turned); resize one to the other.'
            )
        results['gt_seg_map'] = mask
        return results
