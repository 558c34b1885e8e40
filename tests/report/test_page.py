import base64
import json
import math
import re
import shutil

import pytest
from matplotlib.figure import Figure

from mmskin.cli import main
from mmskin.drawing import Case
from mmskin.evaluation.per_image import write_companion
from mmskin.files import read_note, write_note
from mmskin.report.figures import choose_rows
from mmskin.report.page import write_report

FULL = [0, 1, 2, 1, 1, math.nan] * 3
DIAGNOSIS = {'confusion', 'roc', 'precision_recall', 'operating_points', 'reliability'}


@pytest.fixture
def quick(monkeypatch):
    """Draw figures without laying them out, and the PDF of a blank page: that saves three quarters of the time."""

    def save(figure, folder, name):
        folder.mkdir(parents=True, exist_ok=True)
        figure.set_layout_engine('none')
        figure.savefig(folder / f'{name}.svg')
        Figure(figsize=(1, 1)).savefig(folder / f'{name}.pdf')

    monkeypatch.setattr('mmskin.report.figures.save', save)


@pytest.fixture
def report(tmp_path, make_evaluation, write_test):
    """Write the report of a random test and give the page's text and the names of its figures."""

    def write(labels, diagnosis=True, masks=True, cases=True):
        folder = write_test(tmp_path / 'test', make_evaluation(labels, diagnosis, masks), cases)
        page = write_report(folder)
        return page.read_text(encoding='utf-8'), {file.stem for file in (folder / 'report_figures').glob('*.svg')}

    return write


def test_whole_report(report, quick):
    page, figures = report(FULL)
    assert figures == {*DIAGNOSIS, 'jaccard', 'groups', 'cases'}
    assert page.count('<img src="data:image/svg+xml;base64,') == len(figures)
    assert '3 of 18 images have no class label' in page
    assert not re.search(r'<(script|link|iframe)|@import|url\(|(src|href)="(https?:)?//', page)  # nothing is fetched


@pytest.mark.parametrize('colors', ['light', 'dark'])
def test_the_page_suits_a_phone_and_dark_mode(report, quick, tmp_path, colors):
    api = pytest.importorskip('playwright.sync_api', reason='pip install playwright')
    axe = pytest.importorskip('axe_playwright_python.sync_playwright', reason='pip install axe-playwright-python').Axe()
    chromium = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if chromium is None:
        pytest.skip('no Chromium is on the path; apt install chromium')
    report(FULL)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=['--no-sandbox'])
        page = browser.new_page(color_scheme=colors, viewport=dict(width=390, height=844))
        page.goto((tmp_path / 'test' / 'report.html').as_uri())
        assert page.evaluate('document.documentElement.scrollWidth') == 390
        for table in page.locator('table').all():
            box = table.bounding_box()
            assert box['x'] + box['width'] <= 390, table.inner_text()
        paper = page.evaluate('getComputedStyle(document.body).backgroundColor')
        assert (sum(map(int, re.findall(r'\d+', paper)[:3])) < 200) == (colors == 'dark')
        found = axe.run(page)
        assert found.violations_count == 0, found.generate_report()
        browser.close()


def test_the_page_holds_all_that_it_offers(report, quick, tmp_path):
    page, figures = report(FULL)
    links = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert [link for link in links if not link.startswith(('#', 'data:'))] == []
    offered = dict(re.findall(r'<a download="([\w.]+)" href="data:[^,]+;base64,([^"]+)"', page))
    assert {*offered} == {f'{name}.{suffix}' for name in figures for suffix in ('svg', 'pdf')}
    for name, content in offered.items():
        assert base64.b64decode(content) == (tmp_path / 'test' / 'report_figures' / name).read_bytes()


def test_figures_are_fit_for_a_paper(tmp_path, make_evaluation, write_test):
    for name in 'ab':
        write_report(write_test(tmp_path / name, make_evaluation([math.nan] * 3, diagnosis=False), cases=False))
    folders = [tmp_path / name / 'report_figures' for name in 'ab']
    pdf, svg = ((folders[0] / f'groups.{kind}').read_bytes() for kind in ('pdf', 'svg'))
    assert b'/FontFile2' in pdf and b'/Type3' not in pdf
    assert b'<path' in svg and b'<text' not in svg  # letters are outlines
    assert (folders[1] / 'groups.pdf').read_bytes() == pdf and (folders[1] / 'groups.svg').read_bytes() == svg


def test_diagnosis_alone(report, quick):
    page, figures = report([0, 1, 2, 1], masks=False)
    assert figures == {*DIAGNOSIS, 'groups', 'cases'}
    assert 'the segmentation is left out' in page and 'the probability of the true class' in page


def test_segmentation_alone(report, quick):
    page, figures = report([math.nan] * 4, diagnosis=False)
    assert figures == {'jaccard', 'groups', 'cases'}
    assert 'the diagnosis is left out' in page and 'accuracy' not in page.split('How to read it</h2>')[0]


def test_prediction_without_any_truth(report, quick):
    page, figures = report([math.nan] * 4, masks=False)
    assert figures == set()
    assert 'nothing can be measured' in page and '4 of 4 images have no class label' in page


@pytest.mark.parametrize('labels', [[1], [0, 0], [1, 2, 2]])
def test_a_handful_of_images(report, quick, labels):
    page, figures = report(labels)
    assert figures >= {*DIAGNOSIS, 'jaccard', 'groups', 'cases'}
    assert 'undefined' in page and 'No image is labelled' in page and 'nan' not in page.split('<h2')[1]


def test_without_the_cases_there_are_no_contours(report, quick):
    _, figures = report(FULL, cases=False)
    assert 'cases' not in figures


def test_nothing_of_an_earlier_test_in_the_folder_stays(tmp_path, make_evaluation, write_test, quick):
    """Its cases and its checkpoint would pass for those of the new numbers, and its figures get into a paper."""
    folder, other = write_test(tmp_path / 'test', make_evaluation(FULL)), make_evaluation([0, 1, 2])
    other.image_ids = [f'VAL_{index}' for index in range(3)]
    write_note(folder / 'test.json', {'checkpoint': 'epoch_3.pth'})
    write_report(folder, write_test(tmp_path / 'val', other) / 'per_image.csv')
    write_test(folder, make_evaluation([math.nan] * 4, diagnosis=False), cases=False)
    assert {path.name for path in folder.iterdir()} == {'per_image.csv', 'results.json', 'report_figures'}
    assert 'epoch_3.pth' not in write_report(folder).read_text()
    assert {path.stem for path in (folder / 'report_figures').iterdir()} == {'jaccard', 'groups'}


def test_files_of_another_test_are_refused(tmp_path, make_evaluation, write_test, capsys):
    """As where a copy over an earlier test was interrupted."""
    folder, other = (
        write_test(tmp_path / name, make_evaluation(labels))
        for name, labels in (('test', FULL), ('val', [2, 1, 0] * 6))
    )
    for place in (folder, other):
        write_companion(place / 'test.json', {'split': place.name})
    for name in ('cases.json', 'test.json'):
        whole = (folder / name).read_bytes()
        shutil.copy(other / name, folder)
        assert main(['report', str(folder)]) == 2
        assert f'{folder / name}: is of another test than ' in capsys.readouterr().err
        (folder / name).write_bytes(whole)


def test_images_that_are_gone_are_named(report, quick, tmp_path):
    report(FULL)
    cases = tmp_path / 'test' / 'cases.json'
    content = read_note(cases)
    next(iter(content.values()))[0]['img_path'] = '/nowhere/a.jpg'
    write_note(cases, content)
    page = write_report(tmp_path / 'test').read_text()
    assert re.search(r'1 of \d+ image files are gone, /nowhere/a.jpg among them', page)


def test_command_with_a_temperature(tmp_path, make_evaluation, write_test, quick, capsys):
    folder, other = write_test(tmp_path / 'test', make_evaluation([0, 1, 2] * 4)), make_evaluation([0, 1, 2] * 5)
    other.image_ids = [f'VAL_{index}' for index in range(15)]
    write_note(folder / 'test.json', {'checkpoint': '<b>epoch_3.pth'})
    table = write_test(tmp_path / 'val', other) / 'per_image.csv'
    assert main(['report', str(folder), '--calibrate-on', str(table), '--title', 'A & B']) == 0
    assert f'The report is {folder}/report.html' in capsys.readouterr().out
    page = (folder / 'report.html').read_text()
    temperature = json.loads((folder / 'temperature.json').read_text())['temperature']
    assert f'Temperature {temperature:.3f}, fitted on the 15 labelled images' in page
    assert f'<th>temperature {temperature:.2f}</th>' in page
    assert '<title>A &amp; B</title>' in page and '<dd>&lt;b&gt;epoch_3.pth</dd>' in page


@pytest.mark.parametrize('part', ['weights', 'test-time augmentation'])
def test_a_temperature_of_another_network_is_refused(tmp_path, make_evaluation, write_test, part, capsys):
    folder, other = write_test(tmp_path / 'test', make_evaluation([0, 1, 2] * 4)), make_evaluation([0, 1, 2] * 5)
    other.image_ids = [f'VAL_{index}' for index in range(15)]
    table = write_test(tmp_path / 'val', other) / 'per_image.csv'
    for place, said in ((folder, 'one'), (table.parent, 'another')):
        write_note(place / 'test.json', {'weights': 'same', 'test-time augmentation': 'no', part: said})
    assert main(['report', str(folder), '--calibrate-on', str(table)]) == 2
    assert f'is a test with other {part} than the reported one (another, one)' in capsys.readouterr().err
    assert not (folder / 'report.html').exists()


def test_best_median_and_worst_by_hand():
    cases = [Case(f'c{index:02d}', jaccard=index / 20) for index in (3, 7, 1, 9, 5, 2, 8, 4, 6, 0, 10)]
    rows = {name: [case.image_id for case in row] for name, row in choose_rows(cases).items()}
    assert rows == {'best': ['c10', 'c09', 'c08'], 'median': ['c06', 'c05', 'c04'], 'worst': ['c00', 'c01', 'c02']}
    assert list(choose_rows(cases[:2])) == ['all'] and choose_rows([Case('a')]) == {}


def test_without_masks_the_true_classs_probability_ranks():
    cases = [
        Case(name, gt_class='nevus', scores={'nevus': score}) for name, score in {'a': 0.5, 'b': 0.9, 'c': 0.1}.items()
    ]
    assert [row[0].image_id for row in choose_rows(cases).values()] == ['b', 'a', 'c']
