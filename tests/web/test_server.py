"""The page as it is served: to a client, and to a real browser."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

gradio = pytest.importorskip('gradio', reason="the page needs gradio: pip install '.[serve]'")

import httpx  # noqa: E402

from mmskin.cli import main  # noqa: E402
from mmskin.errors import Mistake  # noqa: E402
from mmskin.files import readable  # noqa: E402
from mmskin.web.door import Address  # noqa: E402
from mmskin.web.limits import Limits  # noqa: E402
from mmskin.web.server import running  # noqa: E402

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope='module')
def served(inferencer):
    """The page's address and its folder for uploads."""
    with running(inferencer, Limits(megabytes=5), 'tested') as (address, folder):
        yield address, folder
    assert not folder.exists()


def test_an_address_that_is_taken_is_named(inferencer, served):
    port = int(served[0].rstrip('/').rpartition(':')[2])
    with (
        pytest.raises(Mistake, match=f'127.0.0.1:{port} is in use'),
        running(inferencer, Limits(), 'a', Address(port=port)),
    ):
        pass


@pytest.fixture(scope='module')
def browser():
    api = pytest.importorskip(
        'playwright.sync_api', reason='the browser is driven by playwright: pip install playwright'
    )
    if CHROMIUM is None:
        pytest.skip(f'the page in a browser: none of {", ".join(BROWSERS)} is on the path; apt install chromium')
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, served):
    """The page, and every address that the browser asked for."""
    address, _ = served
    page = browser.new_page()
    page.asked = []
    page.on('request', lambda request: page.asked.append(request.url))
    page.goto(address)
    page.wait_for_selector('input[type=file]', state='attached', timeout=60_000)
    yield page
    page.close()


def test_only_this_machine_is_listened_to_and_the_policy_forbids_others(served):
    address, _ = served
    assert address.startswith('http://127.0.0.1:')
    answer = httpx.get(address)
    assert "default-src 'self'" in answer.headers['content-security-policy']
    assert 'http' not in answer.headers['content-security-policy']
    tags = re.findall(r'<(?:script|link)[^>]*>', answer.text)
    assert tags
    assert not any('http' in tag.replace(address, '') for tag in tags)
    config = httpx.get(f'{address}config').json()
    assert config['analytics_enabled'] is False
    assert not any('http' in sheet for sheet in config['stylesheets'])


def test_an_image_in_the_browser(page, served, photo, tmp_path):
    (tmp_path / 'mole.png').write_bytes(photo)
    (tmp_path / 'notes ${alert(1)}.txt').write_text('no image')
    page.set_input_files('input[type=file]', [*map(str, tmp_path.iterdir())])
    page.wait_for_selector('.mmskin-answer .image', timeout=60_000)
    assert 'not a medical device' in page.inner_text('body')
    assert 'notes ${alert(1)}.txt: not an image' in page.inner_text('.refused')
    assert float(page.inner_text('.probabilities .first td:last-child')) > 1 / 3
    outline = page.locator('svg.outline').bounding_box()
    assert outline == page.locator('.picture > img').first.bounding_box()
    assert page.locator('polygon.edge').first.bounding_box()['width'] > 10
    strokes = page.locator('polygon').evaluate_all('found => found.map(one => getComputedStyle(one).stroke)')
    assert strokes[:2] == ['rgb(255, 255, 255)', 'rgb(20, 70, 255)']  # an edge, and the colour of what is predicted
    first = page.locator('img.map').first
    assert float(first.evaluate('map => getComputedStyle(map).opacity')) == 0
    page.locator('input[type=range]').fill('40')
    assert float(first.evaluate('map => getComputedStyle(map).opacity')) == pytest.approx(0.4)
    with page.expect_download() as download:
        page.click('text=Mask (PNG)')
    assert download.value.suggested_filename == 'mole_segmentation.png'
    assert Image.open(BytesIO(download.value.path().read_bytes())).size == (200, 160)
    assert [*served[1].rglob('*')] == [], 'uploads stay'
    local = (served[0], 'data:', 'blob:')
    assert [url for url in page.asked if not url.startswith(local)] == []


def test_a_sample_is_tried_by_keyboard_and_its_results_are_downloaded(page, served):
    page.locator('.mmskin-samples .sample').nth(1).focus()
    page.keyboard.press('Enter')
    page.wait_for_selector('.mmskin-answer .image', timeout=60_000)
    assert page.inner_text('h2').startswith('painted_2.jpg')
    assert page.inner_text('.mmskin-status') == '1 answered, 0 refused'
    assert page.locator('.mmskin-samples[open]').count() == 0
    with page.expect_download() as download:
        page.click('text=All results (ZIP)')
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == ['predictions.csv', 'masks/painted_2_segmentation.png', 'overlays/painted_2.jpg']
    assert [*served[1].rglob('*')] == [], 'uploads stay'
    assert [url for url in page.asked if not url.startswith((served[0], 'data:', 'blob:'))] == []


FADED_IN = """() => {
    for (let part = document.querySelector('.mmskin-answer'); part; part = part.parentElement)
        if (getComputedStyle(part).opacity !== '1') return false;
    return true;
}"""


@pytest.mark.parametrize('colors', ['light', 'dark'])
def test_the_page_suits_a_phone_a_keyboard_and_a_screen_reader(browser, served, photo, tmp_path, colors):
    axe = pytest.importorskip('axe_playwright_python.sync_playwright', reason='pip install axe-playwright-python').Axe()
    for name in ('mole.png', 'a name that is longer than a telephone is wide, without a gap_' + 40 * 'x' + '.png'):
        (tmp_path / name).write_bytes(photo)
    page = browser.new_page(color_scheme=colors, viewport=dict(width=390, height=844))
    page.goto(served[0])
    page.wait_for_selector('.mmskin-samples', timeout=60_000)
    before = axe.run(page)
    page.set_input_files('input[type=file]', [*map(str, tmp_path.iterdir())])
    page.wait_for_selector('.mmskin-answer .image', timeout=60_000)
    page.wait_for_function(FADED_IN)  # Gradio shows an answer gradually, and half of a colour has half of its contrast
    page.locator('.mmskin-answer details').evaluate_all('found => found.forEach((one) => (one.open = true))')
    for found in (before, axe.run(page)):
        assert found.violations_count == 0, found.generate_report()
    assert page.evaluate('document.documentElement.scrollWidth') == 390
    for table in page.locator('.mmskin-answer table').all():
        box = table.bounding_box()
        assert box['x'] >= 0 and box['x'] + box['width'] <= 390, table.inner_text()
    page.close()


def test_a_real_photograph_in_the_browser(page, served, inferencer, real_data, tmp_path):
    path = sorted((real_data / 'isic2017_native' / 'ISIC-2017_Validation_Data').glob('*.jpg'))[0]
    expected, photo = inferencer(path), Image.open(path)
    page.set_input_files('input[type=file]', str(path))
    page.wait_for_selector('.mmskin-answer .image', timeout=120_000)
    assert page.inner_text('h2') == f'{path.name} {photo.width} x {photo.height} pixels'
    assert page.inner_text('.probabilities .first th') == readable(expected.label)
    assert page.inner_text('.probabilities .first td:last-child') == f'{expected.probabilities[expected.label]:.2f}'
    assert page.locator('legend').inner_text() == 'Why this answer?'
    with page.expect_download() as download:
        page.click('text=Mask (PNG)')
    mask = np.asarray(Image.open(BytesIO(download.value.path().read_bytes())))
    np.testing.assert_array_equal(mask > 0, expected.mask)
    page.screenshot(path=tmp_path / 'page.png', full_page=True)
    page.uncheck('.with-outline')
    shown = Image.open(BytesIO(page.locator('.picture > img').first.screenshot())).convert('RGB')
    difference = np.abs(np.asarray(shown, int) - np.asarray(photo.convert('RGB').resize(shown.size), int))
    assert difference.mean() < 5  # of 255 grey levels: reduced twice, and JPEG


def test_a_file_above_the_limit_is_refused_on_the_page(page, served, tmp_path):
    (tmp_path / 'large.png').write_bytes(bytes(6_000_000))
    page.set_input_files('input[type=file]', str(tmp_path / 'large.png'))
    page.get_by_text('maximum allowed size').first.wait_for(timeout=30_000)
    assert [path for path in served[1].rglob('*') if path.is_file()] == []


def test_bad_arguments_end_with_2(capsys):
    assert main(['serve', '--max-megabytes', '0']) == 2
    assert main(['serve', '--model', 'none.py', '--checkpoint', 'none.pth']) == 2
    assert capsys.readouterr().err.count('mmskin serve: error: ') == 2


def free_port():
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return str(one.getsockname()[1])


@contextmanager
def killed(process):
    """Ends a process that a failed test has left."""
    try:
        yield
    finally:
        process.kill()


@pytest.mark.slow
@pytest.mark.skipif(os.name == 'nt', reason='signals')
def test_a_server_that_is_told_to_end_while_it_computes_ends_cleanly(photo, tmp_path):
    port, environment = free_port(), {**os.environ, 'TMPDIR': str(tmp_path)}
    command = [sys.executable, '-m', 'mmskin', 'serve', '--port', port, '--device', 'cpu']
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with subprocess.Popen(command, **pipes, env=environment) as run, killed(run):
        next(line for line in run.stdout if line.startswith('serving'))
        api = f'http://127.0.0.1:{port}/gradio_api'
        paths = httpx.post(f'{api}/upload', files=[('files', ('mole.png', photo))] * 20).json()
        question = {'data': [[{'path': path} for path in paths], '', 'unknown'], 'fn_index': 0, 'session_hash': 'mine'}
        assert httpx.post(f'{api}/queue/join', json=question).status_code == 200
        time.sleep(1)
        assert len([*tmp_path.glob('mmskin-*/*')]) > 1, 'it has answered already'
        run.send_signal(signal.SIGTERM)
        assert 'terminate called' not in run.communicate(timeout=60)[0]
    assert run.returncode == 0
    assert not [*tmp_path.glob('mmskin-*')]


@pytest.mark.slow
@pytest.mark.skipif(os.name == 'nt', reason='signals')
def test_ctrl_c_ends_it_cleanly(half_folder, tmp_path):
    command = [sys.executable, '-m', 'mmskin', 'serve', '--port', free_port(), '--device', 'cpu']
    command += ['--model', str(half_folder.config.parent)]
    environment = {**os.environ, 'TMPDIR': str(tmp_path)}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)

    def begin():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell has what it runs in the background ignore it
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))

    with subprocess.Popen(command, **pipes, env=environment, preexec_fn=begin) as run, killed(run):
        line = next(line for line in run.stdout if line.startswith('serving'))
        assert 'http://127.0.0.1:' in line
        assert [*tmp_path.glob('mmskin-*')]
        assert resource.prlimit(run.pid, resource.RLIMIT_NOFILE)[0] == wanted  # a flood takes 1255
        time.sleep(2)  # wandb, where it is installed, wraps print and may swallow an interrupt that comes inside
        run.send_signal(signal.SIGINT)
        assert 'Traceback' not in run.communicate(timeout=60)[0]
    assert run.returncode == 0
    assert not [*tmp_path.glob('mmskin-*')]
