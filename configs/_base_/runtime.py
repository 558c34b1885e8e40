"""What every config shares: scope, hooks, logs and seed."""

default_scope = 'mmskin'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10, log_metric_by_epoch=False),  # all steps are training steps
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Every epoch, so that a kill costs at most one. Two, so that a resume has another if the last is damaged. A
    # finished stage keeps one, without the optimizer's state.
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='PredictionPictures', num_images=6, interval=1),
)
custom_hooks = [dict(type='EpochSeed')]

env_cfg = dict(
    cudnn_benchmark=False,  # its choice of algorithm varies from run to run
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)  # mmengine's default is random, so a resumed run would have another seed
log_processor = dict(type='LogProcessor', window_size=10, by_epoch=True, log_with_hierarchy=True)
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
log_level = 'INFO'
keep_stages = True  # False deletes a stage's weights once the next stage has finished
load_from = None
resume = False
