"""Every command of README and docs/ is run as it stands there, page by page, in a folder with small stand-ins.

What is in a page is done from top to bottom: shell blocks line by line, Python blocks in one namespace. A block whose
paragraph above names a file (`my_config.py`:) is written to it. Options that make trainings small are appended.
"""

import argparse
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import mmskin.cli
from mmskin.datasets import synthetic
from mmskin.program import run_tool

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.M | re.S)
LANGUAGES = {'', 'python', 'shell', 'text', 'toml'}

NOT_RUN = {
    r'^pip install': 'asks the network for packages; tests/test_project.py builds and unpacks the wheel',
    r'^pip wheel': 'likewise',
    r'^git clone': 'asks the network',
    r'^NNODES=': 'waits for the other machine',
    r'^make ': 'sets up an environment of 8 GB; what its targets run is run here, or is the test suite',
    r'^\. \.venv/bin/activate': 'the test has an environment',
    r'^cd ': 'a block says in words from which folder it is run',
    r'^tools/dist_train.sh .*#': 'two copies of ResNet-101; it is in the tutorial on clusters, too, whose test is long',
    r'^mmskin serve': 'never ends; tests/web runs it',
    r'^mmskin (sweep|benchmark|predict) .*(--search|--on ray)': 'an extra; tests/test_cluster.py runs it',
    r'^curl ': 'asks a service; tests/test_cluster.py does',
    r'^tensorboard ': 'never ends',
    r'^sbatch ': 'there is no Slurm; what it wraps is read',
    r'^mmskin benchmark .*table1.py .*--report-only': 'reports what Slurm would have done',
    r'^mmskin benchmark suites/peers.py .*--processes': 'trains for a day; tests/test_configs.py builds its networks',
    r'^mmskin benchmark suites/passing.py': 'trains for a day; tests/test_configs.py builds its networks',
    r'^mmskin benchmark suites/peers.py': 'likewise, with the groups of ISIC-2017',
    r'^mmskin benchmark my_suite.py': 'ten trainings; tests/test_tutorials.py has them with a smaller network',
    r'^mmskin (predict|export) .*benchmarks/my_suite': 'likewise',
    r'^mmskin export .*(results/suite|other_model)': 'no page trains these; tests/packaging/test_export.py does',
    r'^mmskin prepare isic': 'downloads, or wants 13 GB; tests/datasets/preparation runs it',
    r'^python tools/fit_novelty.py': 'wants more images than are here; tests/inference/test_novelty.py runs it',
    r'^python -m pytest tests$': "the gate's own tests; tests/test_readme.py runs them",
}
FRAGMENTS = (  # lines to be added to a config
    ('docs/loss_balancing.md', 'model.update('),
    ('docs/tutorials/add_a_task.md', 'model.backbone.branches.update('),
    ('docs/tutorials/add_a_task.md', "model.passing['layer3.1'].routes"),
)
SIZES = [f'{part}_dataloader.dataset.pipeline.0.size=48' for part in ('train', 'val', 'test')]
QUICK = [
    *(f'{part}_dataloader.num_workers=0' for part in ('train', 'val', 'test')),
    *(f'{part}_dataloader.persistent_workers=False' for part in ('train', 'val')),
    'train_dataloader.batch_size=4',
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=9',
]
APPENDED = {
    'train': ['--cfg-options', *SIZES, *QUICK],
    'test': ['--cfg-options', SIZES[-1], 'test_dataloader.num_workers=0'],
    'gates': ['--cfg-options', SIZES[-1], 'test_dataloader.num_workers=0'],
    'cache': ['--cfg-options', *SIZES],
    'export': ['--cfg-options', SIZES[-1]],
    'prepare': ['--checksums', 'downloads/sums', '--offline'],
    'benchmark': ['--cfg-options', *SIZES, *QUICK],
    'synthetic': ['--num-train', '8', '--num-val', '6', '--num-test', '6'],
}
APPENDED |= {'dist_train': APPENDED['train'], 'dist_test': APPENDED['test'], 'slurm_train': APPENDED['train']}
ONE_SEED = '\nseeds = [0]\nmethods = methods[:2]\n'
ALL_IMAGES = """
for part in (options, *(method.get('options', {}) for method in methods)):
    part.pop('train_dataloader.dataset.indices', None)
    part.pop('test_dataloader.dataset.indices', None)
    part.pop('train_dataloader.batch_size', None)
del part
"""
WRITES = ('--out', '--out-dir', '--work-dir', '--sheet')


@dataclass
class Block:
    """A fenced block, and the paragraph above it."""

    language: str
    text: str
    above: str

    @property
    def file(self):
        """The file that it is, if the paragraph above or its first line names one of the user's."""
        if self.language == 'shell':
            return None
        names = re.findall(r'`((?:(?:data|examples)/)?[\w./-]*?\w+\.(?:py|csv|toml))`', self.above)
        names = [name for name in names if '/' not in name or name.startswith(('data/', 'examples/'))]
        first = re.match(r'# (\w+\.py)\n', self.text)
        return first[1] if first else next(iter(names), None)

    @property
    def folder(self):
        """Where it says that its commands are run."""
        said = re.search(r'from the folder `([\w/]+)`', self.above)
        return said[1] if said else '.'

    @property
    def lines(self):
        """The commands of a shell block, without comments."""
        joined = re.sub(r'\\\n\s*', '', self.text).splitlines()
        return [line for line in joined if shlex.split(line, comments=True)]


def blocks(page):
    text = page.read_text()
    return [
        Block(found[1], found[2], text[: found.start()].rstrip().rsplit('\n\n', 1)[-1])
        for found in FENCE.finditer(text)
    ]


def page_name(page):
    return str(page.relative_to(ROOT))


def program(words):
    """The name of mmskin's command or tool that ``words`` call, with its arguments; or None."""
    if words[:3] == ['python', '-m', 'mmskin'] or words[0] == 'mmskin':
        rest = words[words.index('mmskin') + 1 :]
        return rest[0], rest[1:]
    if words[:2] == ['python', '-m'] and words[2] == 'mmskin.datasets.synthetic':
        return 'synthetic', words[3:]
    path = words[1] if words[0] == 'python' and len(words) > 1 else words[0]
    return (Path(path).stem, words[words.index(path) + 1 :]) if path.startswith('tools/') else (None, words)


def made_small(words):
    """``words`` with options that make it quick, on two processes where it is on more, leaving out an image we have."""
    name, arguments = program(words)
    words = [re.sub(r'dataset\.exclude=\[\w+(,\w+)+\]', 'dataset.exclude=[SYN_0000000]', word) for word in words]
    more = APPENDED.get(name, [])
    if any('partly_labelled' in word for word in arguments):
        more = [option for option in more if 'train_dataloader.dataset' not in option]
    if name in ('dist_train', 'dist_test', 'benchmark'):
        words = ['2' if re.fullmatch(r'\d', word) else word for word in words]
    return [*words, *more]


def run(words, monkeypatch):
    """Run one command: mmskin's own in this process, which has imported everything; others in a shell."""
    name, arguments = program(words)
    monkeypatch.setattr(sys, 'argv', [name or '', *arguments])
    if words[0] == 'mmskin' or words[:3] == ['python', '-m', 'mmskin']:
        assert mmskin.cli.main([name, *arguments]) == 0, f'{shlex.join(words)} ended with an error'
    elif name == 'synthetic':
        assert run_tool(synthetic) == 0
    elif words[0] == 'python' and name:
        try:
            runpy.run_path(words[1], run_name='__main__')
        except SystemExit as stop:
            assert not stop.code, f'{shlex.join(words)}: {stop.code}'
    else:
        done = subprocess.run(['bash', '-c', shlex.join(words)], capture_output=True, text=True)
        assert done.returncode == 0, f'{shlex.join(words)}\n{done.stdout[-2000:]}{done.stderr[-3000:]}'


def read(words, monkeypatch):
    """Let a command that is not run be read by what would run it."""
    name, arguments = program(words)
    if words[0] == 'sbatch':
        return read(shlex.split(words[words.index('--wrap') + 1]), monkeypatch)
    if words[0] == 'pip':
        return read_pip(words[2:])
    if name == 'dist_train':
        return read(['mmskin', 'train', *(word for word in arguments if not word.isdigit())], monkeypatch)
    if words[0] == 'make':
        subprocess.run(['make', '-n', *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif name in mmskin.cli.commands():  # tools/train.py and so on are commands, too
        with monkeypatch.context() as patch:
            patch.setattr(mmskin.cli.commands()[name], 'run', lambda args: 0)
            assert mmskin.cli.main([name, *arguments]) == 0
    elif words[0] == 'python' and name and name != 'synthetic':
        parser = argparse.ArgumentParser()
        runpy.run_path(words[1])['add_arguments'](parser)
        parser.parse_args(arguments)
    return None


def read_pip(words):
    """Extras and files that are named exist."""
    extras = [extra for word in words for extra in re.findall(r'\[([\w,]+)\]$', word)]
    for extra in (one for several in extras for one in several.split(',')):
        assert (ROOT / f'requirements/{extra}.txt').is_file(), extra
    for option, value in zip(words, words[1:], strict=False):
        assert option not in ('-c', '-r') or (ROOT / value).is_file(), value


def check_names(words):
    """Files of the repository that a command names exist."""
    for word in words:
        if re.match(r'(configs|tools|suites|speed|requirements|examples|mmskin|docs)/', word):
            assert Path(word).exists(), f'{shlex.join(words)}: there is no {word}'


def check_written(words):
    """What a command was told to write is there."""
    for option, value in zip(words, words[1:], strict=False):
        assert option not in WRITES or Path(value).exists(), f'{shlex.join(words)} has not written {value}'


def training(words):
    """What a command trains and where to, or None if it trains nothing or goes on."""
    name, arguments = program(words)
    if name not in ('train', 'dist_train') or '--resume' in words:
        return None
    config, *more = arguments
    where = more[more.index('--work-dir') + 1] if '--work-dir' in more else f'work_dirs/{Path(config).stem}'
    return config, where, name


def provide(words, trained, monkeypatch):
    """Have work folders that a command names and this page has not made: from another page, or trained now."""
    written = [value for option, value in zip(words, words[1:], strict=False) if option in WRITES]
    for word in words:
        stem = word not in written and re.match(r'work_dirs/((?:r101|lite0|r18)_\w+|demo)$', word)
        if stem and not Path(word).exists() and program(words)[0] != 'train':
            found = [path for (_, where, _), path in trained.items() if where == word]
            name = {'demo': 'r18_synthetic'}.get(stem[1], stem[1])
            if not found:
                call(['mmskin', 'train', f'configs/fpm/{name}.py', '--work-dir', word], trained, monkeypatch)
            else:
                link(word, found[0])


def link(name, folder):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).symlink_to(folder)


def call(words, trained, monkeypatch):
    """Do what a command of the documentation says; what a page before has trained is not trained again."""
    provide(words, trained, monkeypatch)
    key = training(words)
    if key in trained and '--cfg-options' not in words:
        read(words, monkeypatch)
        if not Path(key[1]).exists():
            link(key[1], trained[key])
    else:
        run(made_small(words), monkeypatch)
    if key and Path(key[0]).parent != Path('.'):
        trained.setdefault(key, Path(key[1]).resolve())
    check_written(words)


@pytest.fixture
def small_suites(user_folder):
    """Suites with one seed, their first two methods, and all images of the small set."""
    for suite in (user_folder / 'suites').glob('*.py'):
        suite.write_text(suite.read_text() + ONE_SEED + ALL_IMAGES)


@pytest.mark.parametrize(
    'page',
    [
        pytest.param(page, id=page_name(page), marks=[] if page.name == 'README.md' else pytest.mark.long)
        for page in PAGES
        if blocks(page)
    ],
)
@pytest.mark.slow
def test_page(page, user_folder, small_suites, trained, monkeypatch):
    names = {'__name__': 'documented'}
    for block in blocks(page):
        with monkeypatch.context() as patch:
            patch.chdir(user_folder / block.folder)
            if block.file:
                write(block)
            elif block.language == 'python' and not is_fragment(page, block):
                exec(compile(block.text, page_name(page), 'exec'), names)
            elif block.language == 'shell':
                for line in block.lines:
                    obey(line, trained, patch)


def obey(line, trained, monkeypatch):
    words = shlex.split(line, comments=True)
    check_names(words)
    if any(re.match(pattern, line) for pattern in NOT_RUN):
        read(words, monkeypatch)
    else:
        call(words, trained, monkeypatch)


def is_fragment(page, block):
    return any(page_name(page) == name and block.text.startswith(start) for name, start in FRAGMENTS)


def write(block):
    """Write the file that a block shows, unless it is the checkout's; a table gets some rows more to train on."""
    path = Path(block.file)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    more = {'.csv': ''.join(table_rows()), '.py': ONE_SEED if 'suite' in path.stem else ''}
    path.write_text(block.text + more.get(path.suffix, ''))


def table_rows():
    """Rows of a table of lesions, enough for a batch of each class."""
    for number in range(4, 13):
        split = 'train' if number < 10 else 'test'
        yield f'images/{number:04}.jpg,masks/{number:04}.png,{("benign", "malignant")[number % 2]},{split}\n'


def test_every_block_is_of_a_kind_that_is_looked_at():
    """A command in a block of another language would not be run."""
    found = {(page_name(page), block.language) for page in PAGES for block in blocks(page)}
    assert found
    assert [one for one in sorted(found) if one[1] not in LANGUAGES] == []
    for page in PAGES:
        assert page.read_text().count('\n```') == 2 * len(blocks(page)), f'{page}: a block is indented or left open'


def test_no_exception_is_left_over():
    every = [line for page in PAGES for block in blocks(page) if block.language == 'shell' for line in block.lines]
    assert [pattern for pattern in NOT_RUN if not any(re.match(pattern, line) for line in every)] == []
    for page, start in FRAGMENTS:
        assert any(block.text.startswith(start) for block in blocks(ROOT / page))


def test_files_that_pages_name_exist():
    for page in PAGES:
        text = re.sub(r'```text\n.*?```', '', page.read_text(), flags=re.S)  # errors quote what is missing
        names = set(re.findall(r'(?<![\w/])(?:configs|tools|suites|speed|mmskin)/[\w/]+\.(?:py|sh|png|md)', text))
        assert [name for name in sorted(names) if not (ROOT / name).is_file()] == [], page_name(page)
