"""Table 2 of the paper: classification networks, and those that its introduction names.

It may share a work folder with the other tables, which have some of its rows. The paper trained on 521 further
images, which its authors do not name; here it is the 2000 official ones.
"""

title = "The paper's table 2: classification at 233 x 233"
seeds = [0, 1, 2]
metrics = ['cls/AC', 'cls/mAP', 'cls/AUC_mean']
options = dict(tta=True, tta_model=dict(zooms=(1.0, 1.1), crops=(0.9,)))
methods = [
    dict(
        name='AlexNet',
        config='../configs/classification/alexnet_isic2017.py',
        paper={'cls/AC': 0.775, 'cls/mAP': 0.706},
    ),
    dict(
        name='VGG16',
        config='../configs/classification/vgg16_isic2017.py',
        paper={'cls/AC': 0.789, 'cls/mAP': 0.727},
    ),
    dict(
        name='base, classification',
        config='../configs/classification/r101_isic2017.py',
        paper={'cls/AC': 0.772, 'cls/mAP': 0.699},
        note='ResNet101 in the paper',
    ),
    dict(
        name='gated passing',
        config='../configs/fpm/r101_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
        paper={'cls/AC': 0.801, 'cls/mAP': 0.747},
    ),
    dict(
        name='segment, crop, classify (Yu 2017)',
        config='../configs/multitask/yu2017_r101_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
    ),
    dict(name='bilinear pooling (Ge 2017)', config='../configs/classification/ge2017_isic2017.py'),
    dict(
        name='deep features, logistic regression (Kawahara 2016)',
        config='../configs/classification/kawahara2016_isic2017.py',
        note="AlexNet's features",
    ),
    dict(
        name='deep features, SVM',
        config='../configs/classification/kawahara2016_svm_lite0_isic2017.py',
        note="EfficientNet-Lite0's features",
    ),
    dict(
        name='shared encoder (Yang 2017)',
        config='../configs/multitask/yang2017_isic2017.py',
        options={'model.tasks.seg.post': [dict(type='FillHoles')]},
    ),
]
