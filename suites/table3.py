"""Table 3 of the paper: segmentation networks, and those that its introduction names.

Its work folder may be the other tables', which have some of the rows. The paper trained on 521 further images, which
its authors do not name; here it is the 2000 official ones.
"""

title = "The paper's table 3: segmentation at 233 x 233"
seeds = [0, 1, 2]
metrics = ['seg/JA', 'seg/AC', 'seg/DI']
options = dict(tta=True, tta_model=dict(zooms=(1.0, 1.1), crops=(0.9,)))
methods = [
    dict(
        name='Yuan and Lo 2017',
        config='../configs/segmentation/yuan2017_cdnn_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
        paper={'seg/JA': 0.765, 'seg/AC': 0.934, 'seg/DI': 0.849},
        note='MtSinai in the paper, the challenge winner; a single network here',
    ),
    dict(
        name='U-Net',
        config='../configs/segmentation/unet_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
        paper={'seg/JA': 0.741, 'seg/AC': 0.926, 'seg/DI': 0.822},
    ),
    dict(
        name='base, segmentation',
        config='../configs/segmentation/deeplab_r101_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
        paper={'seg/JA': 0.779, 'seg/AC': 0.940, 'seg/DI': 0.862},
        note='Deeplab-ResNet101 in the paper',
    ),
    dict(
        name='gated passing',
        config='../configs/fpm/r101_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
        paper={'seg/JA': 0.787, 'seg/AC': 0.944, 'seg/DI': 0.868},
    ),
    dict(
        name='Jaccard distance (Yuan 2017)',
        config='../configs/segmentation/jaccard_r101_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
        note='their loss on the base network',
    ),
    dict(
        name='segment, crop, classify (Yu 2017)',
        config='../configs/multitask/yu2017_r101_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
    ),
    dict(
        name='shared encoder (Yang 2017)',
        config='../configs/multitask/yang2017_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
    ),
]
