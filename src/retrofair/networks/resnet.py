"""A ResNet for images, from its configuration alone: random weights, nothing downloaded."""

from __future__ import annotations

from typing import Any

from torch import nn

from retrofair.errors import InputError, unknown
from retrofair.networks.hugging_face_network import HuggingFaceNetwork
from retrofair.networks.randomness import generator_of, seeded

# blocks per stage, the kind of block, channels per stage
DEPTHS: dict[int, tuple[tuple[int, ...], str, tuple[int, ...]]] = {
    18: ((2, 2, 2, 2), "basic", (64, 128, 256, 512)),
    34: ((3, 4, 6, 3), "basic", (64, 128, 256, 512)),
    50: ((3, 4, 6, 3), "bottleneck", (256, 512, 1024, 2048)),
}


def resnet(depth: int = 18, *, classes: int = 2, seed: int = 0, width: float = 1.0) -> nn.Module:
    """A ResNet with weights drawn from a seed, for `train_network`.

    transformers' own, wrapped so that it answers as the library's networks do. One with pretrained
    weights is read by `load_hugging_face`, from a folder or the hub.

    Args:
        depth: 18, 34 or 50 layers.
        classes: of the labels.
        seed: of the weights; the global random state stays as it was.
        width: multiplies the channels of every stage, for a smaller or a larger one.

    Returns:
        A network from images (n, 3, h, w), at least 32 a side, to logits: (n,) of label 1 for two
        classes, (n, classes) for more. In eval mode.

    Raises:
        InputError: another depth, fewer than two classes, or transformers is not installed.

    Reference:
        He, Zhang, Ren and Sun (2016), Deep residual learning for image recognition.
    """
    if depth not in DEPTHS:
        raise unknown("depth", str(depth), [str(known) for known in DEPTHS])
    if classes < 2 or not 0 < width <= 16:
        raise InputError(
            f"expected at least two classes and width in (0, 16], got {classes} and {width}"
        )
    try:
        import transformers
    except ImportError:
        raise InputError(
            "expected the package transformers for a ResNet: install retrofair[transformers]"
        ) from None
    blocks, kind, channels = DEPTHS[depth]
    of: Any = transformers.ResNetConfig  # its signature does not name all that it takes
    config = of(
        embedding_size=_scaled(64, width),
        hidden_sizes=[_scaled(c, width) for c in channels],
        depths=list(blocks),
        layer_type=kind,
        num_labels=classes,
    )
    with seeded(generator_of(seed)):
        return HuggingFaceNetwork(transformers.ResNetForImageClassification(config)).eval()


def _scaled(channels: int, width: float) -> int:
    # a bottleneck divides by 4
    return max(4, 4 * round(channels * width / 4))
