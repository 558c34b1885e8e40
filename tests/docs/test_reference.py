"""docs/reference/ describes every plugin of mmskin's registries, each once, and nothing that is not there."""

import re
from importlib import import_module
from pkgutil import resolve_name

import pytest

from mmskin.plugins import find_plugins


@pytest.fixture(scope='module')
def described(repository):
    pages = sorted((repository / 'docs' / 'reference').glob('*.md'))
    return [name for page in pages for name in re.findall(r'^::: (\S+)$', page.read_text(), re.M)]


def test_every_plugin_is_described(described):
    import_module('mmskin.inference.exported')  # registers itself outside the packages that registries walk
    own = [plugin for plugin in find_plugins() if plugin.module.startswith('mmskin.')]
    assert {'gates', 'operators', 'hooks', 'weightings'} <= {plugin.kind for plugin in own}
    names = [f'{plugin.module}.{plugin.name}' for plugin in own]
    assert [name for name in names if name not in described] == [], 'add them to a page of docs/reference'


def test_nothing_is_described_twice(described):
    assert sorted(set(described)) == sorted(described)


def test_no_markup_of_another_kind_is_shown(repository):
    """The pages are Markdown: a role of Sphinx, such as one for classes, would be read as it stands."""
    sources = [*(repository / 'mmskin').rglob('*.py')]
    assert sources
    assert [str(path) for path in sources if re.search(r':(class|meth|func|mod|attr):`', path.read_text())] == []


def test_what_is_described_exists(described):
    for name in described:
        assert resolve_name(name).__doc__, f'{name} has no docstring'
