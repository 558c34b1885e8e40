"""Make the documentation's pictures again, by the tour's own commands: ``make demo``, then ``make pictures``.

All show synthetic images. The screenshots are taken in a headless Chromium, driven by Playwright.
"""

import argparse
import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from draw_figures import LIGHT, plot, write
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps
from playwright.sync_api import Page, sync_playwright

from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.evaluation.conventions import read_predictions, score_tables
from mmskin.files import readable

IMAGES = Path(__file__).parent / 'images'
DEMO = ('configs/fpm/r18_synthetic.py', 'work_dirs/demo')
MODEL = ('--model', DEMO[0], '--checkpoint', DEMO[1])
DATA = Path('data/synthetic')
PHOTOS = f'{DATA}/ISIC-2017_Test_v2_Data/SYN_200000[1-3].jpg'
WIDTH = 1000  # pixels: what a page shows
PORT = '7868'
CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')


def mmskin(*words: str) -> None:
    """Run a command of the tour."""
    subprocess.run([sys.executable, '-m', 'mmskin', *words], check=True)


def tool(name: str, *words: str) -> None:
    """Run one of the tools."""
    subprocess.run([sys.executable, f'tools/{name}', *words], check=True)


def save(picture: Image.Image, name: str) -> None:
    """Write one picture of the documentation, small enough for a repository."""
    picture = picture.convert('RGB')
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    path = IMAGES / f'{name}.webp'
    picture.save(path, quality=80, method=6)
    print(f'{path}  {path.stat().st_size / 1000:.0f} kB')


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one height in a row."""
    row = Image.new('RGB', (sum(one.width + 8 for one in pictures) - 8, max(one.height for one in pictures)), 'white')
    left = 0
    for one in pictures:
        row.paste(one, (left, 0))
        left += one.width + 8
    return row


@contextmanager
def browser_page(width: int, height: int, dark: bool = False) -> Iterator[Page]:
    """A page in a browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        scheme = 'dark' if dark else 'light'
        yield browser.new_page(viewport={'width': width, 'height': height}, color_scheme=scheme)
        browser.close()


def opened(paths: Iterable[Path]) -> list[Image.Image]:
    """The pictures of files."""
    return [Image.open(path) for path in paths]


def draw_predictions(out: Path) -> None:
    """Overlays, and why an answer is as it is."""
    mmskin('predict', PHOTOS, *MODEL, '--out-dir', str(out), '--overlays', '--explain')
    save(side_by_side(opened(sorted((out / 'overlays').glob('*.jpg')))), 'tour_overlays')
    save(Image.open(out / 'explanations' / 'SYN_2000003.png'), 'tour_explanation')


def draw_samples(out: Path) -> None:
    """README's strip: the painted lesions that come with the package, by the network that does.

    The overlays' own captions would be too small here, and white on a dark page.
    """
    mmskin('predict', '--samples', '--out-dir', str(out), '--overlays')
    tiles = []
    for row in csv.DictReader((out / 'predictions.csv').read_text().splitlines()):
        tile = Image.open(out / 'overlays' / f'{row["image_id"]}.jpg').convert('RGB').crop((0, 0, 384, 288))
        draw = ImageDraw.Draw(tile, 'RGBA')
        draw.rectangle((0, 246, 384, 288), fill=(0, 0, 0, 170))
        said = f'{readable(row["label"])} {float(row[row["label"]]):.2f}'
        draw.text((192, 267), said, 'white', ImageFont.load_default(29), anchor='mm')
        tiles.append(tile)
    save(side_by_side(tiles), 'samples')


def draw_report() -> None:
    """The sheet of contours, and the head of the evaluation report."""
    mmskin('test', *DEMO, '--split', 'val', '--work-dir', f'{DEMO[1]}_val', '--no-report')
    mmskin('report', DEMO[1], '--calibrate-on', f'{DEMO[1]}_val/per_image.csv')
    save(Image.open(f'{DEMO[1]}/cases.png'), 'demo_report')
    report = (Path(DEMO[1]) / 'report.html').resolve().as_uri()
    shots = []
    for name, width, dark in (('tour_report', WIDTH, False), ('dark', WIDTH, True), ('phone', 380, True)):
        with browser_page(width, 1150, dark) as page:
            page.goto(report)
            shots.append(Path(DEMO[1]) / f'{name}.png')
            page.screenshot(path=shots[-1])
            if not dark:
                page.locator('#calibration ~ figure img').first.screenshot(path=f'{DEMO[1]}/calibration.png')
    save(Image.open(shots[0]), 'tour_report')
    save(side_by_side(opened(shots)), 'report_pages')
    save(Image.open(f'{DEMO[1]}/calibration.png'), 'report_calibration')


def draw_tracking() -> None:
    """What the training logged of three validation images, one of each class, after its last epoch."""
    paths = sorted(Path(DEMO[1]).glob('joint/*/vis_data/vis_image/predictions/*.png'), key=step)
    latest = {path.stem.rpartition('_')[0]: path for path in paths}
    save(side_by_side(opened(latest[name] for name in sorted(latest)[:3])), 'tracking_pictures')


def draw_curves() -> None:
    """The losses that the demo's stages logged."""
    figure, axis = plot(7.2, 2.4, xlabel='training step', ylabel='train/loss')
    start = 0
    for stage, color in (('cls', 'orange'), ('seg', 'green'), ('joint', 'blue')):
        path = max(Path(DEMO[1], stage).glob('*/vis_data/scalars.json'))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        steps, losses = zip(
            *((line['step'], line['train/loss']) for line in lines if 'train/loss' in line), strict=True
        )
        axis.plot([start + step for step in steps], losses, 'o-', color=LIGHT[color], lw=2, ms=4)
        axis.text(start + steps[0], losses[0] + 0.05, f'stage {stage}', color=LIGHT[color], fontsize=9)
        start += steps[-1]
    axis.set(ylim=(0, None))
    write(figure, IMAGES / 'curves.svg')


def step(path: Path) -> int:
    """The training step of a logged picture, whose name ends in it."""
    return int(path.stem.rpartition('_')[2])


def draw_gates(out: Path) -> None:
    """Where the gates open, and how far for which images."""
    mmskin('gates', *DEMO, '--out-dir', str(out))
    save(Image.open(out / 'maps.png'), 'tour_gates')
    save(Image.open(out / 'rates.png'), 'gates_rates')


def draw_audit(out: Path) -> None:
    """Images of each class in every changed version."""
    mmskin('audit', *DEMO, '--out-dir', str(out))
    picture = Image.open(out / 'audit.png')
    save(picture.crop((0, 0, picture.width, picture.height * 2 // 3)), 'audit')


def draw_conventions(out: Path) -> None:
    """What Jaccard index each convention gives the demo's predictions."""
    test = DATA / 'ISIC-2017_Test_v2_Data'
    mmskin('predict', str(test), *MODEL, '--out-dir', str(out), '--probabilities')
    text = score_tables([read_predictions(out, f'{str(test)[:-5]}_Part1_GroundTruth', None)])
    names, scores = zip(*re.findall(r'^\| (.+?) \| ([\d.]+) \|', text, re.M), strict=True)
    figure, axis = plot(7.2, 2.5, xlabel='Jaccard index')
    axis.plot([float(score) for score in scores], names, 'o', color=LIGHT['blue'])
    axis.grid(axis='y', color=LIGHT['faint'], lw=0.8)
    for row, score in enumerate(scores):
        axis.text(float(score) + 0.004, row, score, va='center', fontsize=8.5, color=LIGHT['text'])
    axis.set(xlim=(0.85, 1))
    axis.invert_yaxis()
    write(figure, IMAGES / 'conventions.svg')


def draw_data(out: Path) -> None:
    """What a network sees of images, of painted eyes, and copies that two splits share."""
    sheet, eyes = out / 'sheet.png', out / 'eyes'
    tool('browse_dataset.py', DEMO[0], '--count', '4', '--views', '3', '--out', str(sheet))
    save(Image.open(sheet), 'browse')
    subprocess.run([sys.executable, '-m', 'mmskin.datasets.fundus', str(eyes)], check=True)
    five = 'configs/fundus/five_tasks_r18_synthetic.py'
    tool('browse_dataset.py', five, '--data-root', str(eyes), '--count', '4', '--views', '1', '--out', str(sheet))
    save(Image.open(sheet), 'fundus')
    copies = out / 'copies'
    SyntheticLesions(seed=8).write(copies, num_train=6, num_val=6, num_test=3)
    ways = (ImageOps.mirror, lambda one: ImageEnhance.Brightness(one).enhance(1.3), ImageOps.flip)
    for number, change in enumerate(ways):
        original = Image.open(copies / f'ISIC-2017_Training_Data/SYN_000000{number}.jpg')
        change(original).save(copies / f'ISIC-2017_Validation_Data/SYN_100000{number}.jpg', quality=60)
    tool('find_duplicates.py', str(copies), '--sheet', str(sheet), '--out', str(out / 'duplicates.csv'))
    save(Image.open(sheet), 'duplicates')
    shutil.rmtree(copies)


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
    parser.add_argument('names', nargs='*', help='which parts; all by default')
    args = parser.parse_args()
    out = args.out_dir
    out.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(exist_ok=True)
    parts = {
        'samples': lambda: draw_samples(out / 'samples'),
        'predictions': lambda: draw_predictions(out / 'out'),
        'report': draw_report,
        'tracking': draw_tracking,
        'curves': draw_curves,
        'gates': lambda: draw_gates(out / 'gates'),
        'audit': lambda: draw_audit(out / 'audit'),
        'conventions': lambda: draw_conventions(out / 'all'),
        'data': lambda: draw_data(out),
        'page': lambda: draw_web_page(out),
    }
    for name in args.names or parts:
        parts[name]()


if __name__ == '__main__':
    main()
