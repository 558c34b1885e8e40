"""What a run is called where it is tracked, and how a resumed one finds it again."""

from pathlib import Path

from mmengine.config import Config

__all__ = ['read_id', 'run_name', 'write_id']


def run_name(cfg: Config) -> str:
    """The work folder's name, and after it the stage's if there are several: ``lite0_isic2017/joint``."""
    parts = Path(cfg.work_dir).resolve().parts
    return '/'.join(parts[-2:] if cfg.get('stage') else parts[-1:])


def read_id(save_dir: str, service: str) -> str | None:
    """The id under which ``service`` knows the run that logs into ``save_dir``; None for a new run."""
    note = Path(save_dir) / f'{service}_run_id'
    return note.read_text().strip() if note.is_file() else None


def write_id(save_dir: str, service: str, run_id: str) -> None:
    """Note the id for a training that resumes this one."""
    (Path(save_dir) / f'{service}_run_id').write_text(run_id)
