import resource

import pytest

from mmskin.files import write_text


def test_a_write_that_breaks_off_leaves_the_earlier_file(tmp_path):
    path = tmp_path / 'run.json'
    write_text(path, '{}')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match='too large'):
            write_text(path, 'x' * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == '{}'
    write_text(path, '[1]')
    assert [one.read_text() for one in tmp_path.iterdir()] == ['[1]']
