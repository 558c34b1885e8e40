"""Make the documentation's pictures again, by the tour's own commands: ``make demo``, then ``make pictures``.

All show synthetic images. The screenshots are taken in a headless Chromium, driven by Playwright.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent / 'images'
DEMO = ('configs/fpm/r18_synthetic.py', 'work_dirs/demo')
MODEL = ('--model', DEMO[0], '--checkpoint', DEMO[1])
PHOTOS = 'data/synthetic/ISIC-2017_Test_v2_Data/SYN_200000[1-3].jpg'
WIDTH = 1000  # pixels: what a page shows
PORT = '7868'
CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')


def mmskin(*words: str) -> None:
    """Run a command of the tour."""
    subprocess.run([sys.executable, '-m', 'mmskin', *words], check=True)


def save(picture: Image.Image, name: str) -> None:
    """Write one picture of the documentation, small enough for a repository."""
    picture = picture.convert('RGB')
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    path = IMAGES / f'{name}.webp'
    picture.save(path, quality=80, method=6)
    print(f'{path}  {path.stat().st_size / 1000:.0f} kB')


def side_by_side(paths: Sequence[Path]) -> Image.Image:
    """Pictures of one height in a row."""
    pictures = [Image.open(path) for path in paths]
    row = Image.new('RGB', (sum(one.width + 8 for one in pictures) - 8, pictures[0].height), 'white')
    left = 0
    for one in pictures:
        row.paste(one, (left, 0))
        left += one.width + 8
    return row


@contextmanager
def browser_page(width: int, height: int) -> Iterator[Page]:
    """A page in a browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield browser.new_page(viewport={'width': width, 'height': height})
        browser.close()


def draw_predictions(out: Path) -> None:
    """Overlays, and why an answer is as it is."""
    mmskin('predict', PHOTOS, *MODEL, '--out-dir', str(out), '--overlays', '--explain')
    save(side_by_side(sorted((out / 'overlays').glob('*.jpg'))), 'tour_overlays')
    save(Image.open(out / 'explanations' / 'SYN_2000003.png'), 'tour_explanation')


def draw_samples(out: Path) -> None:
    """README's strip: the painted lesions that come with the package, by the network that does."""
    mmskin('predict', '--samples', '--out-dir', str(out), '--overlays')
    save(side_by_side(sorted((out / 'overlays').glob('*.jpg'))), 'samples')


def draw_report() -> None:
    """The sheet of contours, and the head of the evaluation report."""
    mmskin('report', DEMO[1])
    save(Image.open(f'{DEMO[1]}/cases.png'), 'demo_report')
    with browser_page(WIDTH, 1150) as page:
        page.goto((Path(DEMO[1]) / 'report.html').resolve().as_uri())
        page.screenshot(path=f'{DEMO[1]}/screenshot.png')
    save(Image.open(f'{DEMO[1]}/screenshot.png'), 'tour_report')


def draw_tracking() -> None:
    """What the training logged of three validation images, one of each class, after its last epoch."""
    paths = sorted(Path(DEMO[1]).glob('joint/*/vis_data/vis_image/predictions/*.png'), key=step)
    latest = {path.stem.rpartition('_')[0]: path for path in paths}
    save(side_by_side([latest[name] for name in sorted(latest)[:3]]), 'tracking_pictures')


def step(path: Path) -> int:
    """The training step of a logged picture, whose name ends in it."""
    return int(path.stem.rpartition('_')[2])


def draw_gates(out: Path) -> None:
    """Where the gates open."""
    mmskin('gates', *DEMO, '--out-dir', str(out))
    save(Image.open(out / 'maps.png'), 'tour_gates')


def draw_web_page(out: Path) -> None:
    """The page with an answer on it."""
    command = [sys.executable, '-m', 'mmskin', 'serve', *MODEL, '--port', PORT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = next(line for line in server.stdout if line.startswith('serving'))
        with browser_page(WIDTH, 1000) as page:
            page.goto(f'http://127.0.0.1:{PORT}')
            print(address.strip())
            page.wait_for_selector('input[type=file]', state='attached')
            page.set_input_files('input[type=file]', PHOTOS.replace('[1-3]', '3'))
            page.wait_for_selector('.mmskin-answer .image')
            page.locator('input[type=range]').fill('45')
            page.screenshot(path=out / 'page.png', full_page=True)
        server.terminate()
        server.wait()  # before its output is closed
    save(Image.open(out / 'page.png'), 'tour_page')


def main() -> None:
    """Make them all, from the root of a checkout in which ``make demo`` has run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out-dir', type=Path, default=Path('work_dirs/tour'), help='for what the commands write')
    out = parser.parse_args().out_dir
    out.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(exist_ok=True)
    draw_samples(out / 'samples')
    draw_predictions(out / 'out')
    draw_report()
    draw_tracking()
    draw_gates(out / 'gates')
    draw_web_page(out)


if __name__ == '__main__':
    main()
