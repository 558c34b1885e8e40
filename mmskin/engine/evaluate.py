"""Testing a checkpoint: metrics, a table, and files."""

import copy
import json
from datetime import datetime
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

import mmskin
from mmskin.config import tested_dataset
from mmskin.engine.stages import build_runner, join_processes
from mmskin.errors import MissingFile, Mistake
from mmskin.files import write_text
from mmskin.models.watch import unwrap
from mmskin.models.weights import load_weights

__all__ = ['find_checkpoint', 'evaluate_checkpoint']

TRAINING = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')
VALIDATION = ('val_dataloader', 'val_cfg', 'val_evaluator')


def find_checkpoint(path: str | Path) -> Path:
    """A checkpoint file, or the final checkpoint of a work folder.

    Raises:
        MissingFile: if ``path`` is a folder without ``last_checkpoint``, which training writes.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    note = path / 'last_checkpoint'
    if not note.is_file():
        raise MissingFile(f'{note}: not there; training has not finished in {path}, so name a checkpoint file instead')
    final = Path(note.read_text().strip())
    moved = [path / final.name, path / final.parent.name / final.name]  # the folder may be a copy, or have been moved
    return next((file for file in (*moved, final) if file.is_file()), final)


def evaluate_checkpoint(cfg: Config, checkpoint: str | Path, out_dir: str | Path | None = None) -> dict[str, float]:
    """Test the weights of ``checkpoint`` on the config's test set.

    Args:
        cfg: A config with ``work_dir`` set. With ``tta=True`` in it, predictions are averaged over several views of
            each image; ``tta_model``, e.g. ``dict(zooms=(1.0, 1.2))``, says which, if not the flips alone.
        checkpoint: A checkpoint file, or the work folder of a finished training.
        out_dir: Where ``results.json``, ``per_image.csv``, ``test.json`` and the evaluator's own files go; the work
            folder by default.

    Returns:
        The metrics by name, e.g. ``seg/JA``.

    Raises:
        MissingFile: if the checkpoint is missing.
        Mistake: if the config has no test set or metrics, or the checkpoint is damaged or another network's.
    """
    cfg = copy.deepcopy(cfg)
    if missing := [name for name in ('test_dataloader', 'test_evaluator') if not cfg.get(name)]:
        raise Mistake(f'{cfg.filename}: has no {" and no ".join(missing)}, so there is nothing to test on')
    out_dir = Path(out_dir or cfg.work_dir)
    for metric in cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]:
        if 'out_file' in metric:
            metric.out_file = str(out_dir / metric.out_file)
    cfg.test_evaluator = dict(type='ResultsEvaluator', metrics=cfg.test_evaluator, out_dir=str(out_dir))
    cfg.load_from = None
    cfg.visualizer = None  # trainings are tracked, tests leave files
    for name in (*TRAINING, *VALIDATION):
        cfg[name] = None
    if cfg.get('tta'):
        cfg.model = dict(type='TestTimeAugmentation', **cfg.get('tta_model', {}), module=cfg.model)
    join_processes(cfg)
    runner = build_runner(cfg)
    file = find_checkpoint(checkpoint)
    runner.logger.info(f'testing {file}')
    load_weights(unwrap(runner.model), file)
    metrics = runner.test()
    if is_main_process():
        write_text(out_dir / 'test.json', json.dumps(test_note(cfg, file), indent=2) + '\n')
        print(results_table(metrics))
    return metrics


def test_note(cfg: Config, checkpoint: Path) -> dict[str, str]:
    """What was tested, for who finds the results later."""
    split = tested_dataset(cfg).get('split') or 'all'
    views = ', '.join(['yes', *(f'{key} {[*values]}' for key, values in cfg.get('tta_model', {}).items())])
    return {
        'config': str(cfg.filename),
        'checkpoint': str(checkpoint),
        'split': split if isinstance(split, str) else '+'.join(split),
        'test-time augmentation': views if cfg.get('tta') else 'no',
        'tested': datetime.now().astimezone().isoformat(' ', 'minutes'),
        'mmskin': mmskin.__version__,
    }


def results_table(metrics: dict[str, float]) -> str:
    """One metric per line, in columns."""
    width = max(map(len, metrics), default=0)
    return '\n'.join(f'{name:<{width}}  {value:.4f}' for name, value in sorted(metrics.items()))
