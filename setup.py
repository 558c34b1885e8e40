"""Packaging: an installed mmskin carries its configs and tools in ``mmskin/.mim``, where mim looks for them.

The configs are in ``mmskin/configs``, too: there a config outside imports them as ``mmskin.configs.fpm.r101_isic2017``.
"""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PLACES = {
    '.mim/configs': 'configs',
    '.mim/tools': 'tools',
    '.mim/model-index.yml': 'model-index.yml',
    'configs': 'configs',
}

# requirements/<name>.txt
EXTRAS = (
    'albumentations',
    'dicom',
    'docs',
    'excel',
    'lmdb',
    'mlflow',
    'onnx',
    'openvino',
    'ray',
    'serve',
    'smp',
    'tests',
    'torchjd',
    'wandb',
    'weights',
)
DATA = ['py.typed', 'zoo/*/*', 'samples/*', 'report/page.html']  # of a model its config.py, too
DATA += ['web/*.html', 'web/*.css', 'web/*.js']


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding='utf-8')


def requirements(name: str) -> list[str]:
    lines = (line.partition('#')[0].strip() for line in read(f'requirements/{name}.txt').splitlines())
    return [line for line in lines if line]


def version() -> str:
    return re.search(r"__version__ = '(.+)'", read('mmskin/__init__.py')).group(1)


class BuildWithConfigs(build_py):
    """Copies configs and tools into the build; an editable install links to the checkout's own instead."""

    def run(self):
        super().run()
        package = (ROOT if self.editable_mode else Path(self.build_lib)) / 'mmskin'
        for place, folder in PLACES.items():
            self.put(ROOT / folder, package / place)

    def put(self, folder: Path, target: Path) -> None:
        if target.is_symlink() or target.is_file():
            target.unlink()
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.editable_mode:
            target.symlink_to(os.path.relpath(folder, target.parent), target_is_directory=folder.is_dir())
        elif folder.is_file():
            shutil.copy(folder, target)
        else:
            shutil.copytree(folder, target, ignore=shutil.ignore_patterns('__pycache__'))


setup(
    name='mmskin',
    version=version(),
    description='Multi-task analysis of dermoscopic images on MMEngine',
    long_description=read('README.md'),
    long_description_content_type='text/markdown',
    author='MMSkin contributors',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords=['dermoscopy', 'skin lesion', 'multi-task learning', 'segmentation', 'classification'],
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Image Processing',
        'Typing :: Typed',
    ],
    packages=find_packages(include=['mmskin', 'mmskin.*']),
    package_dir={'': '.'},  # an editable install is then a path, which a clone's own folder `mmskin` does not hide
    package_data={'mmskin': DATA},
    python_requires='>=3.10',
    entry_points={'console_scripts': ['mmskin = mmskin.__main__:run']},
    install_requires=requirements('runtime'),
    extras_require={name: requirements(name) for name in EXTRAS},
    cmdclass={'build_py': BuildWithConfigs},
    zip_safe=False,
)
