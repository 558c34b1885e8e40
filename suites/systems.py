"""Every system that the paper's tables and introduction name, each for a short run from random weights.

It shows that all of them train and test on the same images, and what they cost. For results take tables 1 to 3: there
they train as long as their configs say, from ImageNet weights.
"""

title = 'Every system for a short run: 34 training images, 15 of validation, one epoch a stage, from random weights'
seeds = [0]  # more seeds would add nothing: these networks have hardly trained
metrics = ['cls/AC', 'cls/mAP', 'cls/AUC_mean', 'seg/JA', 'seg/AC', 'seg/DI']
options = {
    'test_dataloader.dataset.split': 'val',
    'train_dataloader.dataset.indices': list(range(0, 2000, 60)),  # spread, so that all classes are there
    'test_dataloader.dataset.indices': list(range(0, 150, 10)),
    'train_cfg.max_epochs': 1,
    'train_cfg.val_interval': 9,  # none
    'param_scheduler': None,
    'default_hooks.checkpoint.save_optimizer': False,
}


def stages(*epochs_of):
    """Options for one epoch in each of these stages, which have epochs of their own."""
    return {f'stages.{number}.train_cfg.max_epochs': 1 for number in epochs_of}


untrained = {'model.backbone.chain.weights': None}
untrained_pair = {f'model.backbone.branches.cls.{name}.weights': None for name in ('resnet', 'vgg')}
systems = [
    ('base, classification (ResNet-101)', 'classification/r101', {**untrained, **stages(0)}),
    ('base, segmentation (DeepLab)', 'segmentation/deeplab_r101', untrained),
    ('multi-task', 'multitask/r101', {**untrained, **stages(0, 1)}),
    ('gated passing', 'fpm/r101', {**untrained, **stages(0, 1)}),
    ('AlexNet', 'classification/alexnet', {**untrained, **stages(0)}),
    ('VGG16', 'classification/vgg16', {**untrained, **stages(0)}),
    ('Yuan and Lo 2017', 'segmentation/yuan2017_cdnn', {}),
    ('U-Net', 'segmentation/unet', {}),
    ('Jaccard distance (Yuan 2017)', 'segmentation/jaccard_r101', untrained),
    ('segment, crop, classify (Yu 2017)', 'multitask/yu2017_r101', {**untrained, **stages(0, 1)}),
    ('bilinear pooling (Ge 2017)', 'classification/ge2017', {**untrained_pair, **stages(0)}),
    ('deep features, logistic regression (Kawahara 2016)', 'classification/kawahara2016', untrained),
    ('deep features, SVM', 'classification/kawahara2016_svm_lite0', untrained),
    ('shared encoder (Yang 2017)', 'multitask/yang2017', untrained),
]
methods = [
    dict(name=name, config=f'../configs/{config}_isic2017.py', options=changes) for name, config, changes in systems
]
del systems, untrained, untrained_pair
