"""Table 1 of the paper: its network against the two base networks and against the same network without passing.

The paper trained on 521 further images, which its authors do not name; here it is the 2000 official ones. All
rows have the paper's test-time augmentation and hole filling; we chose the sizes of zooms and crops.
"""

title = "The paper's table 1: ResNet-101 at 233 x 233"
seeds = [0, 1, 2]
metrics = ['cls/AC', 'cls/mAP', 'seg/JA', 'seg/AC', 'seg/DI', 'cls/AUC_mean']
options = dict(tta=True, tta_model=dict(zooms=(1.0, 1.1), crops=(0.9,)))
methods = [
    dict(
        name='base, classification',
        config='../configs/classification/r101_isic2017.py',
        paper={'cls/AC': 0.772, 'cls/mAP': 0.699},
    ),
    dict(
        name='base, segmentation',
        config='../configs/segmentation/deeplab_r101_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
        paper={'seg/JA': 0.779, 'seg/AC': 0.940, 'seg/DI': 0.862},
    ),
    dict(
        name='multi-task',
        config='../configs/multitask/r101_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
        paper={'cls/AC': 0.779, 'cls/mAP': 0.712, 'seg/JA': 0.780, 'seg/AC': 0.940, 'seg/DI': 0.863},
    ),
    dict(
        name='gated passing',
        config='../configs/fpm/r101_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
        paper={'cls/AC': 0.801, 'cls/mAP': 0.747, 'seg/JA': 0.787, 'seg/AC': 0.944, 'seg/DI': 0.868},
    ),
]
