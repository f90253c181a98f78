"""A ResNet as an ONNX graph, written from the network's own structure.

Images [N, 3, H, W] go in, normalised, of any number and size; pooled features [N, F] come out. We
write the graph ourselves because jax2onnx drops the padding of the max-pooling.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from swav_jax.models.resnet import STEMS, BasicBlock, ResNet

OPSET = 17
EPSILON = 1e-5
LARGE = 2**30  # bytes; a protobuf file of 2 GB and more cannot be read, so tensors go beside it


def write_onnx(
    path: Path, model: ResNet, tensors: Mapping[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Writes `path`, and `<path>.data` beside it for the weights of a very large network.

    Args:
      path: of the file.
      model: the network.
      tensors: by PyTorch's names, in PyTorch's layout.
      metadata: goes into the file.

    Raises:
      ImportError: there is no package `onnx`.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    width = model.width * 2 ** (len(model.stage_sizes) - 1) * model.block.expansion
    number = TensorProto.FLOAT
    graph = helper.make_graph(
        _backbone(model, tensors),
        "backbone",
        [helper.make_tensor_value_info("images", number, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("features", number, ["N", width])],
        [numpy_helper.from_array(np.ascontiguousarray(t), name) for name, t in tensors.items()],
    )
    written = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    written.ir_version = 8  # of OPSET's time: older runtimes read it too
    helper.set_model_props(written, metadata)
    large = sum(tensor.nbytes for tensor in tensors.values()) >= LARGE
    onnx.save(written, path, save_as_external_data=large, location=f"{path.name}.data")
    onnx.checker.check_model(str(path), full_check=True)


def _backbone(model: ResNet, tensors: Mapping[str, np.ndarray]) -> list[Any]:
    """The nodes from "images" to "features", in order."""
    layers = _Layers(tensors)
    _, stride, pooled = STEMS[model.stem]
    x = layers.add("Relu", layers.norm(layers.conv("images", "conv1", stride), "bn1"))
    if pooled:
        x = layers.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, blocks in enumerate(model.stage_sizes):
        for number in range(blocks):
            stride = 2 if stage and not number else 1
            strides = [stride, 1] if model.block is BasicBlock else [1, stride, 1]
            x = layers.block(x, f"layer{stage + 1}.{number}", strides)
    x = layers.add("GlobalAveragePool", x)
    layers.add("Flatten", x, output="features", axis=1)
    return layers.nodes


class _Layers:
    """Nodes of a graph that is being made. Each method adds some and names their output.

    Args:
      tensors: by PyTorch's names.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.nodes: list[Any] = []
        self._tensors = tensors

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = f"{kind}_{len(self.nodes)}"
        output = output or name
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def conv(self, x: str, name: str, stride: int) -> str:
        size = self._tensors[f"{name}.weight"].shape[-1]
        return self.add(
            "Conv",
            x,
            f"{name}.weight",
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[size // 2] * 4,
        )

    def norm(self, x: str, name: str) -> str:
        of = [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        return self.add("BatchNormalization", x, *of, epsilon=EPSILON)

    def block(self, x: str, name: str, strides: Sequence[int]) -> str:
        """A residual block, with a convolution of each stride."""
        y = x
        for number, stride in enumerate(strides, 1):
            y = self.norm(self.conv(y, f"{name}.conv{number}", stride), f"{name}.bn{number}")
            y = self.add("Relu", y) if number < len(strides) else y
        if f"{name}.downsample.0.weight" in self._tensors:
            shortcut = self.conv(x, f"{name}.downsample.0", max(strides))
            x = self.norm(shortcut, f"{name}.downsample.1")
        return self.add("Relu", self.add("Add", y, x))


def run_onnx(path: Path, images: Float32[np.ndarray, "N S S 3"]) -> Float[np.ndarray, "N F"]:
    """The features that onnxruntime computes, or ONNX's own slow reference without it."""
    channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    try:
        from onnxruntime import InferenceSession

        session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(str(path))
    return session.run(["features"], {"images": channels_first})[0]
