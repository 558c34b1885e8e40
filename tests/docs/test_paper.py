"""docs/paper.md leads from each of the paper's equations to the functions that compute it."""

import inspect
import re
from pkgutil import resolve_name

import pytest


@pytest.fixture(scope='module')
def rows(repository):
    """The cells of the table's rows, by the equation's number."""
    text = (repository / 'docs' / 'paper.md').read_text()
    return {int(number): cells for number, cells in re.findall(r'^\| \((\d+)\) (\|.*)$', text, re.M)}


def symbols(cells):
    named = re.findall(r'\]\[(mmskin\.[\w.]+)\]', cells)
    return [*named, *re.findall(r'\[`(torchvision\.[\w.]+)`\]', cells)]


def test_all_ten_equations_are_there(rows):
    assert [*rows] == [*range(1, 11)]


@pytest.mark.parametrize('number', range(1, 11))
def test_what_computes_an_equation_exists(rows, number):
    found = [resolve_name(symbol) for symbol in symbols(rows[number])]
    assert found
    assert any(inspect.isfunction(one) for one in found)


def test_names_in_prose_exist(repository):
    text = (repository / 'docs' / 'paper.md').read_text()
    found = re.findall(r'\]\[(mmskin\.[\w.]+)\]', text)
    assert found
    assert all(resolve_name(symbol) is not None for symbol in found)
