"""Tasks of any kind, several of one kind, from a table to predictions: what the fundus configs do, on tiny images."""

import csv
import re
from operator import itemgetter

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from narrow import narrow

from mmskin.config import load_config
from mmskin.datasets.browse import read_samples
from mmskin.datasets.fundus import SyntheticFundus
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.engine.evaluate import evaluate_checkpoint
from mmskin.engine.stages import run_stages
from mmskin.errors import Mistake
from mmskin.evaluation.classification import ClassificationMetric
from mmskin.evaluation.contour_sheet import read_cases
from mmskin.evaluation.per_image import PerImageTable
from mmskin.inference.image_sources import find_images
from mmskin.inference.inferencer import LesionInferencer
from mmskin.inference.prediction import PredictionFiles
from mmskin.models.tasks.classification import Classification, MultiLabelClassification, OrdinalClassification
from mmskin.models.tasks.segmentation import MultiClassSegmentation, MultiLabelSegmentation
from mmskin.packaging.export import export_model
from mmskin.registry import MODELS
from mmskin.report.page import write_report
from mmskin.structures import TaskSample
from mmskin.web.answer import answer_html, look_at

LOADERS = ('train', 'val', 'test')
TASKS = ('grade', 'vessels', 'eye', 'findings', 'lesions')
TINY = {
    **{f'{name}_dataloader.dataset.pipeline.0.size': 48 for name in LOADERS},
    **{f'{name}_dataloader.num_workers': 0 for name in LOADERS},
    **{f'{name}_dataloader.persistent_workers': False for name in ('train', 'val')},
    'train_dataloader.batch_size': 4,
    'train_cfg.max_epochs': 1,
    'train_cfg.val_interval': 1,
    'param_scheduler': None,
    'default_hooks.visualization.num_images': 1,
}


@pytest.fixture(scope='module')
def fundus(repository, tmp_path_factory):
    """The config with five tasks, trained for two steps, and its checkpoint."""
    folder = tmp_path_factory.mktemp('fundus')
    SyntheticFundus(size=64).write(folder / 'data', num_train=8, num_val=4, num_test=4)
    path = repository / 'configs/fundus/five_tasks_r18_synthetic.py'
    cfg = load_config(path, str(folder / 'work'), str(folder / 'data'), options={**TINY, **narrow(*TASKS)})
    checkpoint = run_stages(cfg)
    return cfg, checkpoint, folder


def test_every_task_is_measured_under_its_name(fundus):
    cfg, checkpoint, folder = fundus
    results = evaluate_checkpoint(cfg, checkpoint, folder / 'tested')
    assert {'grade/kappa', 'eye/AC', 'findings/AUC_mean', 'vessels/JA_vein', 'lesions/JA_exudate'} <= {*results}
    table = PerImageTable.read(folder / 'tested')
    columns = {*table.columns}
    assert {
        'grade/gt_label',
        'grade/score_3',
        'eye/score_left',
        'findings/prob_exudate',
        'vessels/JA_artery',
    } <= columns
    case = read_cases(folder / 'tested' / 'cases.json')[0]
    assert {*case.notes} == {'eye', 'findings'}
    assert case.notes['eye'].startswith(('left', 'right'))


def test_every_task_is_predicted_under_its_name(fundus):
    cfg, checkpoint, folder = fundus
    cfg.dump(folder / 'config.py')
    inferencer = LesionInferencer(folder / 'config.py', checkpoint)
    images = sorted((folder / 'data' / 'images').iterdir())[:2]
    with PredictionFiles(folder / 'out', inferencer.classes, overlays=True) as files:
        for source, prediction in zip(find_images(images), inferencer.iterate(images), strict=True):
            files.write(prediction, source)
    assert {*prediction.others} == {'grade', 'vessels', 'eye', 'findings', 'lesions'}
    assert sum(prediction.others['grade'].numbers.values()) == pytest.approx(1, abs=1e-5)
    assert [*prediction.others['vessels'].masks] == ['artery', 'vein']
    rows = list(csv.DictReader((folder / 'out' / 'predictions.csv').open()))
    assert len(rows) == 2
    assert {'eye/left', 'eye/right', 'eye/label', 'findings/exudate', 'findings/label'} <= {*rows[0]}
    assert rows[1]['eye/label'] == prediction.others['eye'].label
    assert 'perimeter' not in rows[0]  # nothing here is one lesion
    for words in (f'eye {rows[1]["eye/label"]}', 'grade ', 'vessels artery '):
        assert words in prediction.summary
    name = images[1].stem
    mask = cv2.imread(str(folder / 'out' / 'masks' / f'{name}_vessels_vein.png'), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(mask > 0, prediction.others['vessels'].masks['vein'])
    assert prediction.to_dict()['others']['eye']['label'] == rows[1]['eye/label']
    assert float(rows[1]['vessels/vein']) == pytest.approx((mask > 0).mean(), abs=1e-5)
    assert len([*(folder / 'out' / 'masks').iterdir()]) > 4
    with PredictionFiles(folder / 'out', inferencer.classes):  # a run that predicts nothing
        assert not [path for path in (folder / 'out').rglob('*') if path.suffix in ('.png', '.jpg')]


def test_the_report_and_the_page_show_every_task(fundus):
    cfg, checkpoint, folder = fundus
    evaluate_checkpoint(cfg, checkpoint, folder / 'reported')
    report = write_report(folder / 'reported').read_text()
    titles = re.findall(r'<h3>(\w+)</h3>', report)
    assert {'eye', 'findings'} <= {*titles}
    cfg.dump(folder / 'config.py')
    inferencer = LesionInferencer(folder / 'config.py', checkpoint)
    (source,) = find_images(min((folder / 'data' / 'images').iterdir()))
    page = answer_html(inferencer.classes, [look_at(inferencer, source)])
    for task in ('grade', 'eye', 'findings'):
        assert f'<caption>{task}' in page
    for name in ('vessels artery', 'vessels vein', 'lesions haemorrhage', 'lesions exudate'):
        assert f'>Mask of {name} (PNG)<' in page


def test_browsing_shows_every_label(fundus):
    cfg, _, _ = fundus
    sample, _ = read_samples(cfg, 'train', 2, 1)
    assert sample.label.splitlines()[0] == 'grade: 0'
    assert {'artery', 'vein', 'haemorrhage', 'exudate'} == {*sample.original.masks} == {*sample.views[0].masks}


def test_averaged_views_and_members_give_every_task(fundus):
    cfg, checkpoint, folder = fundus
    cfg.dump(folder / 'config.py')
    image = min((folder / 'data' / 'images').iterdir())
    plain = LesionInferencer(folder / 'config.py', checkpoint)(image)
    same = LesionInferencer(folder / 'config.py', [checkpoint, checkpoint])(image)
    assert same.others['eye'].numbers == pytest.approx(plain.others['eye'].numbers, abs=1e-6)
    assert np.array_equal(same.others['lesions'].masks['exudate'], plain.others['lesions'].masks['exudate'])
    views = LesionInferencer(folder / 'config.py', checkpoint, tta=True)(image)
    assert {*views.others} == {*plain.others}


@pytest.mark.slow
def test_an_exported_file_answers_alike(fundus):
    pytest.importorskip('onnxruntime')
    cfg, checkpoint, folder = fundus
    cfg.dump(folder / 'config.py')
    export_model(load_config(folder / 'config.py'), checkpoint, folder / 'model.onnx')
    image = min((folder / 'data' / 'images').iterdir())
    ours, exported = (
        LesionInferencer(*which)(image) for which in ((folder / 'config.py', checkpoint), (folder / 'model.onnx',))
    )
    assert exported.others['grade'].label == ours.others['grade'].label
    assert exported.others['eye'].numbers == pytest.approx(ours.others['eye'].numbers, abs=1e-4)
    assert np.mean(exported.others['vessels'].masks['vein'] == ours.others['vessels'].masks['vein']) > 0.99


def test_a_second_classification_of_skin_lesions(repository, tmp_path):
    SyntheticLesions(seed=5, shape=(48, 64)).write(tmp_path / 'data', num_train=8, num_val=4, num_test=4)
    path = repository / 'configs/multitask/sex_r18_synthetic.py'
    cfg = load_config(
        path,
        str(tmp_path / 'work'),
        str(tmp_path / 'data'),
        options={**TINY, **narrow('cls', 'seg', 'sex'), 'stages': None},
    )
    results = evaluate_checkpoint(cfg, run_stages(cfg), tmp_path / 'tested')
    assert {'cls/AC', 'cls/AUC_mean', 'seg/JA', 'sex/AC', 'sex/mAP'} <= {*results}
    classes = PerImageTable.read(tmp_path / 'tested').of('sex').classes
    assert classes == ('female', 'male')


# By hand.

HEAD = dict(type='torch.nn.Identity')


def of_logits(task, *logits):
    """A task's predictions for logits, which stand in the place of maps and pass its head by."""
    samples = [TaskSample(metainfo=dict(ori_shape=(2, 2), img_shape=(2, 2))) for _ in logits]
    task.head.forward = itemgetter(-1)
    task.predict((torch.tensor(logits),), samples)
    return samples


def test_grades_by_hand():
    """Above 0 surely, above 1 as likely as not, above 2 likelier than above 1, which cannot be and counts as that."""
    task = OrdinalClassification(head=HEAD)
    (sample,) = of_logits(task, [100.0, 1.0, 2.0])
    likely = torch.tensor(1.0).sigmoid()
    torch.testing.assert_close(sample.task_score, torch.tensor([0.0, 1 - likely, 0.0, likely]))
    assert sample.task_label.tolist() == [3]
    labelled = TaskSample(gt_label=torch.tensor([2]))
    assert task.match(torch.zeros(1, 3), [labelled])[1].tolist() == [[1, 1, 0]]


def test_labels_by_hand():
    task = MultiLabelClassification(
        head=HEAD, losses=dict(bce=dict(type='torch.nn.BCEWithLogitsLoss', reduction='sum'))
    )
    (sample,) = of_logits(task, [-1.0, 0.5, 3.0])
    assert sample.task_labels.tolist() == [0, 1, 1]
    assert task.answer(sample, ('a', 'b', 'c')).label == 'b, c'
    partly = TaskSample(gt_labels=torch.tensor([1.0, torch.nan, 0.0]))
    logits = torch.zeros(1, 3, requires_grad=True)
    loss = task.losses['bce'](*task.match(logits, [partly]))
    loss.backward()
    torch.testing.assert_close(loss, 2 * torch.tensor(2.0).log())
    assert logits.grad.tolist() == [[-0.5, 0.0, 0.5]]
    assert not task.is_labelled(TaskSample(gt_labels=torch.full((3,), torch.nan)))


@pytest.mark.parametrize('weight', [None, [1.0, 3.0]])
def test_votes_by_hand(weight):
    """Three of four readers say the second class, of logits 0 and log 3: probabilities of 1/4 and 3/4."""
    ours = dict(type='CrossEntropy', class_weight=weight)
    task = Classification(dict(type='ClsHead', in_channels=2, num_classes=2), dict(ce=ours), target='gt_votes')
    task.name = 'kind'
    torch.nn.init.eye_(task.head.fc.weight)
    torch.nn.init.zeros_(task.head.fc.bias)
    feats = (torch.tensor([0.0, np.log(3)], dtype=torch.float32).reshape(1, 2, 1, 1).expand(4, 2, 1, 1),)
    votes = ([1.0, 3.0], [0.0, 0.0], [float('nan'), 1.0], [2.0, 6.0])
    samples = [TaskSample(metainfo=dict(image_id=str(i)), gt_votes=torch.tensor(one)) for i, one in enumerate(votes)]
    assert [task.is_labelled(sample) for sample in samples] == [True, False, False, True]
    first, second = 0.25 * np.log(4), 0.75 * np.log(4 / 3)
    expected = first + second if weight is None else (first + 3 * second) / (0.25 + 3 * 0.75)
    assert task.loss(feats, samples)['loss_ce'].item() == pytest.approx(expected, rel=1e-5)
    task.predict(feats, [TaskSample(metainfo=dict(img_shape=(1, 1))) for _ in votes])
    theirs = Classification(dict(type='mmpretrain.LinearClsHead', in_channels=2, num_classes=2), target='gt_votes')
    theirs.head.fc.load_state_dict(task.head.fc.state_dict())
    pooled = tuple(one.mean(dim=(2, 3)) for one in feats)
    assert theirs.loss(pooled, samples)['loss'].item() == pytest.approx(first + second, rel=1e-5)
    with pytest.raises(Mistake, match='kind has 2 outputs, and the data set 3 names for gt_votes'):
        task.loss(feats, [TaskSample(gt_votes=torch.ones(3))] * 4)


@pytest.mark.parametrize('kind', ['Classification', 'OrdinalClassification'])
@pytest.mark.parametrize('label', [-100, -1, 3, 255])
def test_a_label_that_is_no_class_is_refused(kind, label):
    """Torch leaves -100 out, and a grade above all would be taken for the last."""
    head = dict(type='ClsHead', in_channels=2, num_classes=3 if kind == 'Classification' else 2)
    loss = 'CrossEntropy' if kind == 'Classification' else 'torch.nn.BCEWithLogitsLoss'
    task = MODELS.build(dict(type=kind, head=head, losses=dict(one=dict(type=loss))))
    task.name = 'kind'
    samples = [
        TaskSample(metainfo=dict(image_id=str(n)), gt_label=torch.tensor([one])) for n, one in enumerate((1, label))
    ]
    with pytest.raises(Mistake, match=rf'^1: gt_label is \[{label}\], and the task kind takes 0 to 2'):
        task.loss((torch.zeros(2, 2, 1, 1),), samples)


def test_votes_below_0_are_refused():
    task = Classification(dict(type='ClsHead', in_channels=2, num_classes=2), dict(ce=dict(type='CrossEntropy')))
    task.name = 'kind'
    sample = TaskSample(metainfo=dict(image_id='7'), gt_label=torch.tensor([-1.0, 3.0]))
    with pytest.raises(Mistake, match=r'^7: gt_label is \[-1.0, 3.0\], and the task kind takes votes >= 0'):
        task.loss((torch.zeros(1, 2, 1, 1),), [sample])


def test_metrics_take_the_class_with_the_most_votes():
    metric = ClassificationMetric(task='kind')
    samples = [TaskSample(metainfo=dict(image_id=str(i), targets={'kind': 'gt_votes'})) for i in range(3)]
    for sample, votes in zip(samples, ([1.0, 3.0], [2.0, 1.0], [0.0, 0.0]), strict=True):
        sample.gt_votes, sample.kind_score = torch.tensor(votes), torch.tensor([0.2, 0.8])
        sample.kind_label = torch.tensor([1])
    metric.process({}, [sample.to_dict() for sample in samples])
    assert metric.evaluate(3)['kind/AC'] == 0.5
    assert [row.get('gt_label') for row in metric.per_image] == [1, 0, None]


def test_classes_of_pixels_by_hand():
    """Background, then two classes; 255 in the ground truth counts nowhere."""
    task = MultiClassSegmentation(head=HEAD, losses=dict(ce=dict(type='CrossEntropy')))
    logits = torch.tensor([[[5.0, 0.0], [0.0, 0.0]], [[0.0, 5.0], [0.0, 0.0]], [[0.0, 0.0], [5.0, 5.0]]])
    (sample,) = of_logits(task, logits.tolist())
    assert sample.task_mask.data.tolist() == [[[0, 1], [0, 0]], [[0, 0], [1, 1]]]
    truth = [TaskSample(gt_sem_seg=PixelData(data=torch.tensor([[[0, 1], [2, 255]]], dtype=torch.uint8)))]
    before = task.losses['ce'](*task.match(logits[None], truth))
    logits[:, 1, 1] = torch.tensor([9.0, 0.0, 0.0])
    torch.testing.assert_close(task.losses['ce'](*task.match(logits[None], truth)), before)


@pytest.mark.parametrize(
    ('task', 'field', 'truth', 'message'),
    [
        (MultiLabelSegmentation, 'gt_masks', PixelData(data=torch.zeros(5, 2, 2)), 'has 2 outputs, .* 5 names'),
        (MultiClassSegmentation, 'gt_sem_seg', PixelData(data=torch.full((1, 2, 2), 4)), 'the class 4'),
        (MultiLabelClassification, 'gt_labels', torch.zeros(3), 'has 2 outputs'),
    ],
)
def test_a_head_of_other_outputs_than_the_data(task, field, truth, message):
    logits = torch.zeros(1, 2) if field == 'gt_labels' else torch.zeros(1, 2, 2, 2)
    with pytest.raises(ValueError, match=message):
        task(head=HEAD).match(logits, [TaskSample(**{field: truth})])
