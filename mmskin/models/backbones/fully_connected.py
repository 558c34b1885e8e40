"""The fully connected layers of AlexNet and VGG as blocks of a chain."""

from torch import nn

__all__ = ['fully_connected_blocks']


def fully_connected_blocks(network: nn.Module) -> dict[str, nn.Module]:
    """``fc6`` and ``fc7`` of a torchvision network, each giving a map (N, 4096, 1, 1), with dropout where it has it.

    The last layer, which names ImageNet's classes, is left out: the head stands in its place.

    Args:
        network: Has ``avgpool`` and ``classifier``, as torchvision's AlexNet and VGG have.
    """
    *layers, _ = network.get_submodule('classifier').children()
    end = next(index for index, layer in enumerate(layers) if isinstance(layer, nn.ReLU)) + 1
    as_map = nn.Unflatten(1, (-1, 1, 1))
    first = nn.Sequential(network.get_submodule('avgpool'), nn.Flatten(), *layers[:end], as_map)
    return {'fc6': first, 'fc7': nn.Sequential(nn.Flatten(), *layers[end:], as_map)}
