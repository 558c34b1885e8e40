"""Table 2 of the paper: classification networks. Its work folder may be table1's, which has two of the rows.

The paper trained on 521 further images, which its authors do not name; here it is the 2000 official ones.
"""

title = "The paper's table 2: classification at 233 x 233"
seeds = [0, 1, 2]
metrics = ['cls/AC', 'cls/mAP', 'cls/AUC_mean']
options = dict(tta=True, tta_model=dict(zooms=(1.0, 1.1), crops=(0.9,)))
methods = [
    dict(
        name='AlexNet',
        config='../../configs/classification/alexnet_isic2017.py',
        paper={'cls/AC': 0.775, 'cls/mAP': 0.706},
    ),
    dict(
        name='VGG16',
        config='../../configs/classification/vgg16_isic2017.py',
        paper={'cls/AC': 0.789, 'cls/mAP': 0.727},
    ),
    dict(
        name='base, classification',
        config='../../configs/classification/r101_isic2017.py',
        paper={'cls/AC': 0.772, 'cls/mAP': 0.699},
        note='ResNet101 in the paper',
    ),
    dict(
        name='gated passing',
        config='../../configs/fpm/r101_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
        paper={'cls/AC': 0.801, 'cls/mAP': 0.747},
    ),
]
