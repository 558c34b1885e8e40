"""Table 1 with EfficientNet-Lite0, on validation, since we lack the test split."""

title = 'Table 1 with EfficientNet-Lite0, on the validation split'
seeds = [0, 1, 2]
metrics = ['cls/AC', 'cls/mAP', 'cls/AUC_mean', 'seg/JA', 'seg/AC', 'seg/DI']
options = {'test_dataloader.dataset.split': 'val'}
methods = [
    dict(name='base, classification', config='../configs/classification/lite0_isic2017.py'),
    dict(name='base, segmentation', config='../configs/segmentation/lite0_isic2017.py'),
    dict(name='multi-task', config='../configs/multitask/lite0_isic2017.py'),
    dict(name='gated sum', config='../configs/fpm/lite0_isic2017.py'),
    dict(
        name='gated sum, TTA, filled holes',
        config='../configs/fpm/lite0_isic2017.py',
        weights_of='gated sum',
        options={
            'tta': True,
            'tta_model': dict(zooms=(1.0, 1.1), crops=(0.9,)),
            'model.tasks.seg.post': [dict(type='FillHoles')],
        },
    ),
]
