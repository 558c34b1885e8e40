"""The multi-task network: shared blocks, a branch per task, feature passing, heads."""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from mmengine.model import BaseModel, ModuleDict
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.files import check_name
from mmskin.models.convolutions import speed_up_depthwise
from mmskin.models.fusion import Values, build_inputs, values_of
from mmskin.models.heads import with_widths
from mmskin.models.passing.base import FeaturePassing, Features, Route
from mmskin.models.shapes import of_losses
from mmskin.models.tasks.task import Feats, Task
from mmskin.models.watch import pass_features, rates_of, watched
from mmskin.models.weighting.weighting import Weighting
from mmskin.registry import MODELS, as_config, options_of
from mmskin.structures import TaskSample, label_in


class Compiled(NamedTuple):
    """What stands in for the modules of a network when it predicts.

    Attributes:
        size: Of the images (h, w) that it takes; others go through the modules.
        estimates: From normalised images (N, 3, h, w) and the values of the inputs to each active task's ``estimate``.
        features: From such images to the network's ``shared_features``, if these are wanted.
    """

    size: tuple[int, int]
    estimates: Callable[[Tensor, Values], dict[str, Tensor]]
    features: Callable[[Tensor], Tensor] | None


@MODELS.register_module()
class MultiTaskModel(BaseModel):
    """A shared network that splits into a branch per task, which pass each other features on the way to their heads.

    Args:
        backbone: Config of a ``SplitBackbone`` with a branch for every task.
        tasks: Config of each task by name, e.g. ``cls=dict(type='Classification', head=...)``. Widths that a head or
            neck leaves out are those of the branch's maps, see ``with_widths``.
        passing: Config of the feature passing by the name of its block or level, e.g.
            ``{'layer3.22': dict(type='GatedFeaturePassing')}`` or ``{'/16': 'CrossStitchPassing'}``. 'decoder/16' is
            the map of level '/16' that the heads get. A tuple of names is one operator at several sites, with
            weights for each: x_j, what enters the block, is there what left the site before for branch j, in the
            order in which they run: blocks as the branches come to them, then decoders' levels from coarse to fine. An
            operator that is a ``CarryingPassing`` is also handed the state that it gave there.
        use_passing: False runs the network without passing, as the stages before the joint one do.
        active_tasks: Tasks to run, all by default. The others' parts are neither computed nor trained.
        frozen: Parts held fixed, batch-norm statistics included: 'shared', 'passing', a task's name, or the path of
            a module, such as 'backbone.shared.stem'.
        data_preprocessor: Config of the preprocessor, which normalises and stacks the images; by default stacks them.
        weighting: Config of a ``Weighting``, which balances the tasks' losses, e.g. ``dict(type='DWA')``.
            By default their sum is minimised.
        inputs: Config of each thing that the network is given with the image, by name, e.g.
            ``age=dict(type='Numeric', minimum=0, maximum=120)``. A task reads them by its ``fusion``. Samples hold
            their values in ``inputs``; any may be unknown.
    """

    def __init__(
        self,
        backbone: dict,
        tasks: Mapping[str, dict],
        passing: Mapping[str | tuple[str, ...], dict | str] | None = None,
        use_passing: bool = True,
        active_tasks: Sequence[str] | None = None,
        frozen: Sequence[str] = (),
        data_preprocessor: dict | None = None,
        weighting: dict | str | None = None,
        inputs: Mapping[str, dict] | None = None,
    ) -> None:
        super().__init__(data_preprocessor or dict(type='mmengine.ImgDataPreprocessor'))
        for name, value in self.data_preprocessor.named_buffers():
            if not value.isfinite().all() or (name == 'std' and not (value > 0).all()):
                above = ' above 0' if name == 'std' else ''
                raise Mistake(f'data_preprocessor: {name}={value.flatten().tolist()}; give numbers{above}')
        self.backbone = MODELS.build(backbone, kind='backbones')
        self.inputs = build_inputs(inputs)
        self.tasks = ModuleDict(
            {name: MODELS.build(self._with_widths(name, task), kind=Task) for name, task in tasks.items()}
        )
        for name, task in self.tasks.items():
            check_name(name, "a task's name")
            task.name = name  # with which its predictions' fields and its columns in tables begin
        self.sites: dict[str, str] = {}  # by the name of the module, in which there are no dots
        self.travels: dict[str, tuple[str, ...]] = {}  # the sites between which maps travel, by each of them
        self.passing = ModuleDict()
        self._place(passing or {})
        speed_up_depthwise(self)
        self.use_passing = use_passing
        self.active_tasks = list(tasks) if active_tasks is None else list(active_tasks)
        self._fixed = self._fixed_parts(frozen)
        for module in self._fixed:
            module.requires_grad_(False)
        names = {'tasks': list(self.tasks), 'active_tasks': self.active_tasks}
        self.weighting = MODELS.build(as_config(weighting, **names), kind=Weighting) if weighting else None
        self.compiled: Compiled | None = None

    def _with_widths(self, name: str, task: dict) -> dict:
        """The config of a task, with what its fusion, its neck and its head get from the network."""
        branch = self.backbone.branch(name)  # or there is none
        maps = self.head_maps(name)
        if task.get('fusion'):
            fusion = as_config(task['fusion'], inputs=self.inputs, in_channels=maps[-1][0])
            if 'num_classes' in options_of(MODELS.get(fusion['type'])) and 'num_classes' in task['head']:
                fusion.setdefault('num_classes', task['head']['num_classes'])
            task = {**task, 'fusion': fusion}
        return with_widths(task, maps, getattr(branch, 'size', 0))

    def head_maps(self, task: str) -> list[tuple[int, int]]:
        """Channels and stride against the image of each map that the head of ``task`` gets."""
        return self.backbone.maps_of(task)

    def _place(self, passing: Mapping[str | tuple[str, ...], dict | str]) -> None:
        """Build the operators, one at each site."""
        seen: dict[str, Any] = {}
        for key, config in passing.items():
            given = [key] if isinstance(key, str) else self.backbone.in_order(key)
            before: str | None = None
            for site in given:
                blocks = self.backbone.blocks_at(site, list(self.tasks))
                if not blocks:
                    raise Mistake(f'passing names {site!r}, where no task has a branch; name them in tasks')
                is_late = site.startswith('decoder/')
                if twice := [other for other, where in seen.items() if where == (is_late, blocks)]:
                    raise Mistake(f'passing names one block as {twice[0]!r} and as {site!r}; keep one of them')
                seen[site] = is_late, blocks
                # a level is called by its block, if that is the same in all
                name = site if is_late or len({*blocks.values()}) > 1 else next(iter(blocks.values()))
                leaving = {task: self.backbone.channels_out(site, task) for task in blocks}
                entering = {task: self.backbone.channels_in(site, task) for task in blocks}
                if before:  # what left the site before enters this one
                    earlier = self.backbone.blocks_at(before, list(self.tasks))
                    entering |= {task: self.backbone.channels_out(before, task) for task in blocks if task in earlier}
                operator = as_config(config, in_channels=entering, out_channels=leaving)
                if is_late:
                    operator |= self._late_routes(operator, blocks)
                self.sites[name.replace('.', '_')] = name
                self.passing[name.replace('.', '_')] = MODELS.build(operator, kind=FeaturePassing)
                before = site
            if len(given) > 1:
                names = tuple([*self.sites.values()][-len(given) :])
                self.travels |= dict.fromkeys(names, names)

    def _late_routes(self, operator: Mapping[str, Any], blocks: Mapping[str, str]) -> dict[str, list[Route]]:
        """The routes of an operator at a decoder's level: those from heads that get a map to heads that read it."""
        kind = cast(type[FeaturePassing], MODELS.get(operator['type']))
        routes = operator.get('routes')
        routes = [tuple(route) for route in (kind.default_routes([*blocks]) if routes is None else routes)]
        if unknown := {task for route in routes for task in route} - {*self.tasks}:
            raise Mistake(f'routes name {", ".join(sorted(unknown))}; the tasks are {", ".join(self.tasks)}')
        read = {task: self.backbone.out_blocks[task].index(block) for task, block in blocks.items()}
        read = {task: place for task, place in read.items() if place in self._read_maps(task)}
        kept = [route for route in routes if {*route} <= {*blocks} and route[1] in read]
        detached = [tuple(route) for route in operator.get('detach', ())]
        return {'routes': kept, 'detach': [route for route in detached if route in kept or route not in routes]}

    @torch.enable_grad()
    def _read_maps(self, name: str) -> set[int]:
        """The places of the maps that the head of a task reads, of those that it gets."""
        task, shapes = self.tasks[name], self.head_maps(name)
        side = 2 * max(stride for _, stride in shapes)
        maps = tuple(torch.zeros(2, width, side // at, side // at, requires_grad=True) for width, at in shapes)
        gradients = torch.autograd.grad(task.eval()(maps).sum(), maps, allow_unused=True)
        task.train()
        return {place for place, gradient in enumerate(gradients) if gradient is not None}

    def _fixed_parts(self, frozen: Sequence[str]) -> list[nn.Module]:
        """The modules that ``frozen`` names, and those that no active task needs."""
        parts = {'shared': [self.backbone.shared], 'passing': [self.passing]}
        parts |= {name: [self.backbone.branch(name), task] for name, task in self.tasks.items()}
        modules = dict(self.named_modules())
        parts |= {path: [modules[path]] for path in {*frozen} - {*parts} if path in modules}
        if not self.active_tasks:
            raise Mistake(f'active_tasks={self.active_tasks} runs nothing; name one or more of {", ".join(self.tasks)}')
        unknown = [name for name in frozen if name not in parts]
        unknown += [name for name in self.active_tasks if name not in self.tasks]
        if unknown:
            raise Mistake(f'no part is named {", ".join(sorted(unknown))}; the parts are {", ".join(parts)}')
        idle = [name for name in self.tasks if name not in self.active_tasks]
        fixed = [module for name in [*frozen, *idle] for module in parts[name]]
        if not self.use_passing:
            return [*fixed, self.passing]
        return fixed + [part for passing in self.passing.values() for part in passing.idle_parts(self.active_tasks)]

    def train(self, mode: bool = True) -> 'MultiTaskModel':
        """Switch to training; frozen parts stay in evaluation mode, so that their batch-norm statistics stay."""
        super().train(mode)
        for module in self._fixed:
            module.eval()
        return self

    def extract_feat(self, inputs: Tensor, values: Values | None = None) -> dict[str, Feats]:
        """Feature maps by task for normalised images (N, 3, H, W), as they are with the ``values`` of the inputs."""
        maps = self.branch_maps(inputs)
        return {name: cast(Task, self.tasks[name]).fuse(feats, values or {}) for name, feats in maps.items()}

    def branch_maps(self, inputs: Tensor) -> dict[str, Feats]:
        """The maps of the active tasks' branches for normalised images (N, 3, H, W)."""
        left: dict[tuple[str, ...], Features] = {}  # the maps that travel, by their sites
        states: dict[tuple[str, ...], Any] = {}  # and what operators hand on

        def passed(site: str, operator: FeaturePassing, entering: Features, leaving: Features) -> Features:
            sites = self.travels.get(site, (site,))
            entering = {task: left.get(sites, {}).get(task, x) for task, x in entering.items()}
            left[sites], states[sites] = pass_features(site, operator, entering, leaving, states.get(sites))
            return left[sites]

        passing = {site: partial(passed, site, operator) for site, operator in self.passing_by_site().items()}
        return self.backbone(inputs, self.active_tasks, passing)

    def over_image(self, task: str, maps: Tensor, inputs: Tensor) -> Tensor:
        """Maps (N, C, h, w) of a task's branch as maps of the whole image, which here each branch sees."""
        return maps

    def forward(
        self, inputs: Tensor, data_samples: list[TaskSample] | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[TaskSample]:
        """Run the network in one of mmengine's modes.

        Args:
            inputs: Normalised images (N, 3, H, W).
            data_samples: One sample per image; needed by 'loss' and 'predict'.
            mode: 'loss' gives losses as ``<task>/<name>``, what passing operators add to them as ``<block>/<name>``,
                and with a weighting the one to minimise as ``loss`` and the weights as ``weight/<task>``; 'predict'
                gives the samples with predictions, 'tensor' gives logits by task.
        """
        passing: dict[str, dict[str, Tensor]] = {}

        def collect(site: str, operator: FeaturePassing, *given: Any) -> None:
            passing[site] = operator.losses(*given)

        values: Values = {}
        if data_samples and any('inputs' in sample for sample in data_samples):
            values = {name: value.to(inputs.device) for name, value in values_of(self.inputs, data_samples).items()}
        if mode == 'predict' and self.compiled and inputs.shape[2:] == self.compiled.size:
            assert data_samples is not None, "mode 'predict' needs data_samples"
            for name, estimates in self.compiled.estimates(inputs, values).items():
                self.tasks[name].write(estimates, data_samples)
            return data_samples
        with watched(collect) if mode == 'loss' else nullcontext():
            feats = self.extract_feat(inputs, values)
        if mode == 'tensor':
            return {name: self.tasks[name](feat) for name, feat in feats.items()}
        assert mode in ('loss', 'predict'), f'mode is tensor, loss or predict, not {mode!r}'
        assert data_samples is not None, f'mode {mode!r} needs data_samples'
        if mode == 'loss':
            return self._loss(feats, data_samples, passing)
        for name, feat in feats.items():
            self.tasks[name].predict(feat, data_samples)
        return data_samples

    def _loss(
        self, feats: dict[str, Feats], samples: list[TaskSample], passing: dict[str, dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The losses by name; with a weighting they are for the log, next to the one to minimise and the weights.

        What ``passing`` adds is no task's, and not balanced.

        Raises:
            Mistake: if there is nothing to learn of a task, or a name hides a loss from mmengine.
        """
        losses = {name: self.tasks[name].loss(feat, samples) for name, feat in feats.items()}
        by_name: dict[str, Tensor] = {}
        parts = {**self.tasks, **self.passing_by_site()}
        for place, named in [*losses.items(), *passing.items()]:
            of_losses(named, parts[place], f'the losses of {place}')
            by_name |= {f'{place}/{name}': value for name, value in named.items()}
            others = {name: value for name, value in named.items() if 'loss' not in name}
            hidden = [name for name, value in others.items() if not isinstance(value, Tensor) or value.requires_grad]
            if hidden or (place in losses and len(others) == len(named)):
                given = ', '.join(hidden or others) or 'nothing'
                raise Mistake(f'{place} gives {given}, and what is learnt has "loss" in its name; rename or detach it')
            learns = place in losses and any(x.requires_grad for x in (*feats[place], *parts[place].parameters()))
            is_learnt = any(value.requires_grad for name, value in named.items() if 'loss' in name)
            if torch.is_grad_enabled() and learns and not is_learnt:
                raise Mistake(
                    f'{type(parts[place]).__name__} gives losses of {place} without a gradient, from which nothing is '
                    'learnt; compute them from the logits, and without a label return 0 * logits.sum()'
                )
        if self.weighting is None:
            return by_name
        sums = {task: super(MultiTaskModel, self).parse_losses(named)[0] for task, named in losses.items()}
        labelled = [task for task in losses if any(map(cast(Task, self.tasks[task]).is_labelled, samples))]
        loss, weights = self.weighting(sums, labelled, self)
        logged = {name: value.detach() for name, value in super().parse_losses(by_name)[1].items()}
        loss = sum((value for named in passing.values() for value in named.values()), start=loss)
        return {**logged, 'loss': loss, **{f'weight/{task}': weight for task, weight in weights.items()}}

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, and what is logged: mmengine's sum of the losses, or theirs as they are weighted."""
        return super().parse_losses(losses) if self.weighting is None else (losses['loss'], losses)

    def fit_inputs(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """Let the tasks' fusions count what they want to, in a training set as ``TaskDataset`` lists it."""
        fused = {name: task for name, task in self.tasks.items() if task.fusion}
        labels = {name: array('q') for name in fused}
        values = {name: {key: array('f') for key in self.inputs} for name in fused}
        for sample in samples:
            for name, task in fused.items():
                if task.kind == 'classes' and (label := label_in(sample, task.target)) is not None:
                    labels[name].append(label)
                    for key, given in self.inputs.items():
                        values[name][key].append(given.read(sample.get('inputs', {}).get(key), key))
        for name, task in fused.items():
            if labels[name]:
                known = {key: torch.tensor(numbers) for key, numbers in values[name].items()}
                task.fusion.fit(known, torch.tensor(labels[name]))

    def passing_by_site(self) -> dict[str, FeaturePassing]:
        """The operators in use, by their block."""
        sites = self.sites.items() if self.use_passing else ()
        return {site: cast(FeaturePassing, self.passing[key]) for key, site in sites}

    def routes(self) -> dict[str, tuple[FeaturePassing, str]]:
        """The routes in use, named as ``blocks.4.2/cls2seg``: each one's operator, and its name there."""
        return {
            f'{site}/{route}': (operator, route)
            for site, operator in self.passing_by_site().items()
            for route in operator.running(self.active_tasks)
        }

    @torch.no_grad()
    def gates(self, inputs: Tensor) -> dict[str, dict[str, Tensor]]:
        """The values of the gates by block and route, each (N, C, h, w), for normalised images (N, 3, H, W).

        They lie in [0, 1]; what they say, each operator's ``quantity`` does.

        Call it in evaluation mode, as any forward pass that is not training.
        """
        rates: dict[str, dict[str, Tensor]] = {}

        def record(site: str, operator: FeaturePassing, *given: Any) -> None:
            rates[site] = rates_of(operator, *given)

        with watched(record):
            self.extract_feat(inputs)
        return rates
