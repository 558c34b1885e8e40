"""Draw masks, as mmskin trains on them, from outlines in COCO's or LabelMe's format.

python examples/outlines_to_masks.py outlines.json masks     # one file of COCO
python examples/outlines_to_masks.py labelme masks           # a folder with LabelMe's file of each image
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def from_coco(path: Path) -> Iterator[tuple[str, tuple[int, int], list]]:
    """Name, width and height, and polygons of each image."""
    coco = json.loads(path.read_text())
    for image in coco['images']:
        parts = [one['segmentation'] for one in coco['annotations'] if one['image_id'] == image['id']]
        lines = [line for part in parts if isinstance(part, list) for line in part]  # a dict is a run-length code
        polygons = [np.reshape(line, (-1, 2)).tolist() for line in lines]
        yield Path(image['file_name']).stem, (image['width'], image['height']), polygons


def from_labelme(folder: Path) -> Iterator[tuple[str, tuple[int, int], list]]:
    """Likewise."""
    for path in sorted(folder.glob('*.json')):
        drawn = json.loads(path.read_text())
        polygons = [shape['points'] for shape in drawn['shapes'] if shape['shape_type'] == 'polygon']
        yield path.stem, (drawn['imageWidth'], drawn['imageHeight']), polygons


def main(outlines: str, out: str) -> None:
    """Write a PNG for each image, 255 on the lesion and 0 off it."""
    Path(out).mkdir(exist_ok=True)
    read = from_labelme if Path(outlines).is_dir() else from_coco
    for name, size, polygons in read(Path(outlines)):
        mask = Image.new('L', size)
        for points in polygons:
            ImageDraw.Draw(mask).polygon([tuple(point) for point in points], fill=255)
        mask.save(Path(out) / f'{name}.png')


if __name__ == '__main__':
    main(*sys.argv[1:])
