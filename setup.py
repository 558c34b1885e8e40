"""Packaging: an installed mmskin carries its configs and tools in ``mmskin/.mim``, where mim looks for them."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
MIM_FOLDERS = ('configs', 'tools')


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
        target = (ROOT if self.editable_mode else Path(self.build_lib)) / 'mmskin' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for folder in MIM_FOLDERS:
            self.place(folder, target / folder)

    def place(self, folder: str, target: Path) -> None:
        if self.editable_mode:
            target.symlink_to(Path('..', '..', folder), target_is_directory=True)
        else:
            shutil.copytree(ROOT / folder, target, ignore=shutil.ignore_patterns('__pycache__'))


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
    package_data={'mmskin': ['py.typed']},
    python_requires='>=3.10',
    install_requires=requirements('runtime'),
    extras_require={'tests': requirements('tests')},
    cmdclass={'build_py': BuildWithConfigs},
    zip_safe=False,
)
