"""examples/tour.ipynb runs from top to bottom, without a network, in a folder of its own."""

import os

import pytest

nbclient = pytest.importorskip('nbclient', reason='the notebook is run by nbclient: pip install nbclient ipykernel')

import nbformat  # noqa: E402

NO_NETWORK = dict.fromkeys(('HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy'), 'http://127.0.0.1:9')


@pytest.fixture(scope='module')
def notebook(repository):
    return nbformat.read(repository / 'examples' / 'tour.ipynb', as_version=4)


def test_it_is_kept_with_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert all(cell.outputs for cell in cells)
    assert 'stderr' not in {output.get('name') for cell in cells for output in cell.outputs}


@pytest.mark.long
def test_every_cell_runs(notebook, tmp_path):
    environment = {**os.environ, **NO_NETWORK, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    client = nbclient.NotebookClient(notebook, timeout=600, resources={'metadata': {'path': str(tmp_path)}})
    client.execute(env=environment)
    outputs = [output for cell in notebook.cells if cell.cell_type == 'code' for output in cell.outputs]
    pictures = [output for output in outputs if 'image/png' in output.get('data', {})]
    text = ''.join(output.get('text', '') for output in outputs)
    assert len(pictures) == 2
    assert 'JA 0.' in text
    assert not any(output.output_type == 'error' for output in outputs)
    assert [*tmp_path.iterdir()] == []
