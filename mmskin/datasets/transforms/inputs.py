"""Training without what is often unknown."""

import numpy as np
from mmcv.transforms import BaseTransform

from mmskin.errors import Mistake
from mmskin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class DropInputs(BaseTransform):
    """Make inputs beside the image unknown at random, so that a network learns to do without them.

    Put it just before ``PackTaskSample``: the augmentation before it then stays as it is without.

    Args:
        prob: probability that an input is dropped, each for itself.
        all_prob: probability that all of them are, besides.
    """

    def __init__(self, prob: float = 0.1, all_prob: float = 0.2) -> None:
        if not (0 <= prob <= 1 and 0 <= all_prob <= 1):
            raise Mistake(f'prob={prob}, all_prob={all_prob} of DropInputs are no probabilities; give 0 to 1')
        self.prob, self.all_prob = prob, all_prob

    def transform(self, results: dict) -> dict:
        """Replace ``inputs``."""
        known = results.get('inputs', {})
        all_go, each = np.random.uniform() < self.all_prob, np.random.uniform(size=len(known)) < self.prob
        results['inputs'] = {
            name: value for (name, value), goes in zip(known.items(), each, strict=True) if not (all_go or goes)
        }
        return results
