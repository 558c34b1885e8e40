"""Our networks against a network of segmentation_models.pytorch, in five grouped folds over all 2150 images.

All have the same encoder weights, images of 192 pixels, splits, folds and four flips at test; each has the training of
its own config. Needs ``pip install 'mmskin[smp]'``.
"""

title = 'Against a peer: SMP DeepLabV3+ and ours, EfficientNet-Lite0 at 192 x 192, five folds over train and validation'
seeds = [0, 1, 2]
folds = dict(count=5, groups=['same_lesion_groups.csv', 'duplicates'])
metrics = ['cls/AC', 'cls/AUC_mean', 'cls/mAP', 'seg/JA', 'seg/DI']
margins = {'cls/AC': 0.012, 'seg/JA': 0.005}
options = {'tta': True, 'tta_model': dict(zooms=(1.0,))}  # the four flips alone
baseline = 'SMP DeepLabV3+'
methods = [
    dict(name='SMP DeepLabV3+', config='../configs/peers/smp_deeplabv3plus_lite0_isic2017.py'),
    dict(name='multi-task', config='../configs/multitask/lite0_isic2017.py'),
    dict(name='gated sum', config='../configs/fpm/lite0_isic2017.py'),
]
