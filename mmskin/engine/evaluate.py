"""Testing a checkpoint: metrics, a table, and files."""

import copy
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

import mmskin
from mmskin.config import tested_dataset, tested_metainfo
from mmskin.engine.checkpoints import find_checkpoints, sole_work
from mmskin.engine.runner import refusals_in_log
from mmskin.engine.stages import build_runner, join_processes
from mmskin.errors import Mistake
from mmskin.evaluation.per_image import write_companion
from mmskin.files import shown_path
from mmskin.models.averaging import load_members
from mmskin.models.weights import stated_hash
from mmskin.registry import checked

TRAINING = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')
VALIDATION = ('val_dataloader', 'val_cfg', 'val_evaluator')


@checked
def evaluate_checkpoint(
    cfg: Config, checkpoint: str | Path | Sequence[str | Path], out_dir: str | Path | None = None
) -> dict[str, float]:
    """Test the weights of ``checkpoint`` on the config's test set.

    Args:
        cfg: A config with ``work_dir`` set. With ``tta=True`` in it, predictions are averaged over several views of
            each image; ``tta_model``, e.g. ``dict(zooms=(1.0, 1.2))``, says which, if not the flips alone.
        checkpoint: A checkpoint file, the work folder of a finished training, or several of them or a folder of folds,
            whose predictions are averaged.
        out_dir: Where ``results.json``, ``per_image.csv``, ``test.json`` and the evaluator's own files go; the work
            folder by default.

    Returns:
        The metrics by name, e.g. ``seg/JA``.

    Raises:
        MissingFile: if the checkpoint is missing.
        Mistake: if the config has no test set or metrics, the checkpoint is damaged or another network's, or another
            test works in the folder.
    """
    with refusals_in_log(str(cfg.filename)):
        cfg, out_dir = copy.deepcopy(cfg), Path(out_dir or cfg.work_dir)
        if missing := [name for name in ('test_dataloader', 'test_evaluator') if not cfg.get(name)]:
            raise Mistake(f'{cfg.filename}: has no {" and no ".join(missing)}, so there is nothing to test on')
        metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
        for metric in (metric for metric in metrics if 'out_file' in metric):
            metric.out_file = str(out_dir / metric.out_file)
        cfg.test_evaluator = dict(type='ResultsEvaluator', metrics=cfg.test_evaluator, out_dir=str(out_dir))
        cfg.load_from = None
        cfg.visualizer = None  # trainings are tracked, tests leave files
        for name in (*TRAINING, *VALIDATION):
            cfg[name] = None
        files = find_checkpoints(checkpoint)
        if len(files) > 1:
            cfg.model = dict(type='Ensemble', members=[cfg.model] * len(files))
        views = cfg.get('tta_model', {})
        if cfg.get('tta'):
            cfg.model = dict(type='TestTimeAugmentation', **views, module=cfg.model)
        join_processes(cfg)
        with sole_work('test', [out_dir]):
            runner = build_runner(cfg)
            names = ', '.join(map(shown_path, files))
            runner.logger.info(f'testing {names}')
            load_members(runner.model, files, tested_metainfo(cfg))
            values = runner.test()
            if not is_main_process():
                return values
            split = tested_dataset(cfg).get('split') or 'all'
            shown_views = ', '.join(['yes', *(f'{key} {[*options]}' for key, options in views.items())])
            note = {
                'config': shown_path(cfg.filename),
                'checkpoint': names,
                'weights': ', '.join(map(stated_hash, files)),
                'split': split if isinstance(split, str) else '+'.join(split),
                'test-time augmentation': shown_views if cfg.get('tta') else 'no',
                'tested': datetime.now().astimezone().isoformat(' ', 'minutes'),
                'mmskin': mmskin.__version__,
            }
            write_companion(out_dir / 'test.json', note)
        width = max(map(len, values), default=0)
        print(*(f'{name:<{width}}  {value:.4f}' for name, value in sorted(values.items())), sep='\n')
        return values
