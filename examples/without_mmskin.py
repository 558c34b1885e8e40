"""Diagnose and outline a photograph by a network that mmskin has exported, with NumPy, OpenCV and ONNX Runtime alone.

python examples/without_mmskin.py my_model.onnx photo.jpg mask.png
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


def threshold(lesion: np.ndarray, setting: float | str) -> float:
    """The probability from which on a pixel is lesion.

    ``'expected_jaccard'`` depends on the image: with the probabilities in falling order p_1, p_2, ... it is the p_n
    with the largest (p_1 + ... + p_n) / (n + p_(n+1) + ...). Where no pixel is above one half, there is no lesion.
    """
    if setting != 'expected_jaccard':
        return setting
    falling = np.sort(lesion.ravel().astype(float))[::-1]
    inside = falling.cumsum()
    expected = inside / (np.arange(1, falling.size + 1) + inside[-1] - inside)
    return falling[expected.argmax()] if falling[0] > 0.5 else np.inf


def main(network: str, path: str, out: str) -> None:
    """Print the classes' probabilities, and write the mask: 0 and 255, of the photograph's size."""
    session = onnxruntime.InferenceSession(network)
    about = json.loads(session.get_modelmeta().custom_metadata_map['mmskin'])
    size, mean, std = (np.float32(about['input'][key]) for key in ('size', 'mean', 'std'))
    photo = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
    shrinks = min(photo.shape[:2]) > size
    small = cv2.resize(photo, (int(size), int(size)), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    images = ((small - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)

    unknown = {one.name: np.float32([np.nan]) for one in session.get_inputs()}  # age and so on, if the network asks
    probabilities, lesion = session.run(['cls_probabilities', 'seg_probabilities'], {**unknown, 'images': images})
    classes = about['outputs']['cls_probabilities']['classes']
    print(json.dumps(dict(zip(classes, probabilities[0].tolist(), strict=True))))
    lesion = cv2.resize(lesion[0, 0], photo.shape[1::-1])
    mask = lesion >= threshold(lesion, about['outputs']['seg_probabilities']['threshold'])
    cv2.imwrite(out, mask.astype(np.uint8) * 255)


if __name__ == '__main__':
    main(*sys.argv[1:])
