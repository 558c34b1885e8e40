"""Model folders: a trained network with its config and its card, as ``mmskin publish`` writes them."""

from pathlib import Path
from typing import NamedTuple

from mmskin.errors import MissingFile
from mmskin.files import ZOO

DEFAULT_MODEL = 'lite0_isic2017'
SHOWN = 8  # files of a folder that is no model's


class ModelFolder(NamedTuple):
    """The files of a published model.

    Attributes:
        config: For testing; looks nothing up, since the weights are all there.
        weights: safetensors, whose hash is checked as they are read.
        card: What the model is for, how it was trained and how well it does.
    """

    config: Path
    weights: Path
    card: Path


FILES = ModelFolder(Path('config.py'), Path('weights.safetensors'), Path('README.md'))


def shipped_models() -> list[str]:
    """Names of the models that come with mmskin."""
    return sorted(path.parent.name for path in ZOO.glob(f'*/{FILES.weights}'))


def config_of(model: str | Path) -> Path:
    """The config of a model by name or folder, or the config itself."""
    return Path(model) if Path(model).suffix in ('.py', '.json', '.yaml', '.yml') else model_folder(model).config


def local_models(folder: str | Path = '.') -> list[Path]:
    """Model folders in ``folder`` and up to three below it, without those that hidden folders hold."""
    patterns = ['/'.join(['*'] * level + [str(FILES.weights)]) for level in range(4)]
    folders = [path.parent for pattern in patterns for path in Path(folder).glob(pattern)]
    return sorted(
        path
        for path in folders
        if not any(part.startswith('.') and part != '..' for part in path.parts)
        and all((path / name).is_file() for name in FILES)
        and not path.resolve().is_relative_to(ZOO)
    )


def tested_folder(name_or_path: str | Path) -> Path:
    """A test's folder, or where ``mmskin test`` puts that of a model that comes with mmskin."""
    folder = Path(name_or_path)
    if folder.is_dir() or str(name_or_path) not in shipped_models():
        return folder
    folder = Path('work_dirs') / folder
    if not folder.is_dir():
        raise MissingFile(f'{folder}: no test of this model; run mmskin test {name_or_path} --data-root DATA first')
    return folder


def model_folder(name_or_path: str | Path = DEFAULT_MODEL) -> ModelFolder:
    """The files of a model, by the name of one that comes with mmskin or by its folder.

    A shipped model's name wins over a folder of that name in the working directory; ``./name`` is the folder.
    """
    shipped = shipped_models()
    folder = ZOO / name_or_path if str(name_or_path) in shipped else Path(name_or_path)
    if not folder.is_dir():
        known = ', '.join(shipped) or 'none'
        raise MissingFile(f'{name_or_path}: no such folder, and no model that comes with mmskin ({known})')
    if missing := [str(name) for name in FILES if not (folder / name).is_file()]:
        there = sorted(path.name for path in folder.iterdir())
        listing = ', '.join(there) if len(there) <= SHOWN else f'{len(there)} others'
        raise MissingFile(
            f'{folder}: not a model folder, which holds {", ".join(map(str, FILES))}: {", ".join(missing)} missing, '
            f'{listing or "nothing"} found; write one by mmskin publish'
        )
    return ModelFolder(*(folder / name for name in FILES))
