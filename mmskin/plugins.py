"""What is registered: every plugin of mmskin's registries, by kind."""

import inspect
import re
from dataclasses import dataclass

from mmengine.model import BaseModel

from mmskin import registry
from mmskin.models.fusion import Fusion, Input
from mmskin.models.passing.base import FeaturePassing
from mmskin.models.tasks.segmentation import MaskStep
from mmskin.models.tasks.task import Task
from mmskin.models.weighting.weighting import Weighting
from mmskin.registry import MODELS, PluginRegistry, kind_of

# MODELS holds many kinds: told by base class, or else by ``kind_of``.
BASES = {
    FeaturePassing: 'operators',
    Fusion: 'fusions',
    Input: 'inputs',
    MaskStep: 'postprocessing',
    Task: 'tasks',
    Weighting: 'weightings',
    BaseModel: 'networks',
}
MARKUP = re.compile(r'``(.+?)``|:[a-z:]+:`[~!]?(.+?)`|\\(?=[|*_`])|(?<!`)`([^`]+)`(?!`)')  # of reST
ADDRESS = re.compile(r'https?://[^\s<>`,;]*[^\s<>`,;.:)]')  # without the punctuation behind it


@dataclass(frozen=True)
class Plugin:
    """One registered type.

    Attributes:
        kind: Such as 'gates'; of what is in no registry with parts, the registry's name.
        name: What a config calls it.
        module: Where it is.
        summary: The first line of its docstring, without markup.
        link: The first address in its docstring, or else in its module's; '' if there is none.
    """

    kind: str
    name: str
    module: str
    summary: str
    link: str


def find_plugins() -> list[Plugin]:
    """Everything in mmskin's registries, a user's own included if it has been imported; by kind and name."""
    members = (getattr(registry, name) for name in registry.__all__)
    registries = [member for member in members if isinstance(member, PluginRegistry)]
    for searched in registries:
        searched.import_from_location()
    plugins = set()
    for searched in registries:
        for name, plugin in searched.module_dict.items():
            kind = f'{searched.name.replace("_", " ")}s'
            if searched is MODELS:
                bases = inspect.getmro(plugin) if inspect.isclass(plugin) else ()
                by_base = next((kind for base, kind in BASES.items() if base in bases), None)
                kind = by_base or kind_of(name, plugin)
            text = inspect.cleandoc(plugin.__doc__ or '')
            summary = MARKUP.sub(lambda marked: next(filter(None, marked.groups()), ''), text.partition('\n')[0])
            link = ADDRESS.search(text) or ADDRESS.search(inspect.getdoc(inspect.getmodule(plugin)) or '')
            plugins.add(Plugin(kind, name, plugin.__module__, summary, link.group() if link else ''))
    return sorted(plugins, key=lambda plugin: (plugin.kind, plugin.name))
