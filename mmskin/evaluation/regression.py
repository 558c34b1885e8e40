"""How near predicted numbers come to the true ones."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageMetric, Row, mean_of_defined, numbers_in
from mmskin.registry import METRICS


def correlations(pred: ArrayLike, gt: ArrayLike) -> dict[str, float]:
    """The correlation of predicted and true values (N,), after Pearson, and of their ranks, after Spearman.

    Both are nan where either side is all the same, as with a single image: a network that has learnt nothing but the
    mean has no correlation.
    """
    predicted, true = numbers_in(pred=pred, gt=gt)
    if not predicted.size or np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return {'pearson': math.nan, 'spearman': math.nan}
    return {
        'pearson': float(stats.pearsonr(predicted, true)[0]),
        'spearman': float(stats.spearmanr(predicted, true)[0]),
    }


@METRICS.register_module()
class RegressionMetric(PerImageMetric):
    """``<task>/MAE_<name>``, ``<task>/pearson_<name>``, ``<task>/spearman_<name>`` of each value of a regression.

    MAE is the mean absolute error over images, in the values' own units; the rows in ``per_image`` hold
    ``gt_<name>``, ``pred_<name>`` and, as ``MAE_<name>``, the image's absolute error.

    Args:
        names: Of the values, in their order; by default the data set's, or their numbers.
        lengths: Those of the names that are lengths as shares of the frame's side; the rows have them in pixels of the
            original image besides, as ``pred_<name>_px``. In an image that is not square a length depends on its
            direction; its mean over both, sqrt(H W), is taken for the side, which is exact for an equivalent diameter.
        options: Those of ``PerImageMetric``, such as ``task='shape'``.
    """

    default_prefix = 'regression'
    default_target = 'gt_values'

    def __init__(self, names: Sequence[str] | None = None, lengths: Sequence[str] = (), **options: Any) -> None:
        super().__init__(**options)
        if unknown := {*lengths} - {*(names or ())}:
            raise Mistake(f'lengths of RegressionMetric: {", ".join(sorted(unknown))} not among names={names}')
        self.names, self.lengths = names, lengths

    def measure(self, sample: dict) -> Row:
        """True and predicted values, as far as the sample has them, and their distance."""
        fields = self.target_of(sample), f'{self.task}_values'
        gt, pred = (self.named(sample, sample[field]) if field in sample else {} for field in fields)
        side = math.sqrt(math.prod(sample['ori_shape'])) if self.lengths else 1.0
        return {
            **{f'gt_{name}': value for name, value in gt.items()},
            **{f'pred_{name}': value for name, value in pred.items()},
            **{f'MAE_{name}': abs(pred[name] - gt[name]) for name in gt if name in pred},
            **{f'pred_{name}_px': pred[name] * side for name in self.lengths if pred},
        }

    def named(self, sample: dict, values: Any) -> dict[str, float]:
        """A sample's values (num_values,) by name."""
        names = self.names or self.output_names(sample, len(values))
        if len(names) != len(values):
            raise Mistake(f'RegressionMetric has the names {", ".join(names)}, but samples have {len(values)} values')
        return dict(zip(names, values.tolist(), strict=True))

    def summarize(self, rows: list[Row]) -> dict[str, float]:
        """The scores of every value, over the rows that have it true and predicted."""
        names = dict.fromkeys(key.removeprefix('MAE_') for row in rows for key in row if key.startswith('MAE_'))
        results: dict[str, float] = {}
        for name in names:
            judged = [row for row in rows if f'MAE_{name}' in row]
            pairs = sorted((row[f'pred_{name}'], row[f'gt_{name}']) for row in judged)  # for a sum's last digit
            results[f'MAE_{name}'] = mean_of_defined(row[f'MAE_{name}'] for row in judged)
            results |= {f'{key}_{name}': value for key, value in correlations(*zip(*pairs, strict=True)).items()}
        return results
