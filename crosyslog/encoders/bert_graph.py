"""A BERT as an ONNX graph, written from its weights: no export, no torch, no file.

The weights stay outside the graph, which has a few kilobytes and is made in milliseconds at every
start. It uses onnxruntime's own operators for attention, so that nothing has to be fused later.
In int8, what enters a matrix product is rounded by a range that was measured once: a range of
its own for every batch would make a vector depend on the texts beside it.

Shapes: B texts, L tokens, D dimensions of a vector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

#: Of onnxruntime's own operators.
_OWN = "com.microsoft"

#: The first version of ONNX with all that is used here.
_OPSET = 17

#: The middle of unsigned bytes, which stands for 0. Products of signed bytes overflow on
#: processors without instructions for them: unsigned ones are exact everywhere.
_MIDDLE = 128


class Graph(NamedTuple):
    """A graph and what it needs.

    Attributes:
        model: the graph, serialised.
        weights: by the names that the graph gives them.
    """

    model: bytes
    weights: dict[str, NDArray[Any]]


#: The lowest and the highest number that enters each matrix product, by its name.
Ranges = dict[str, tuple[float, float]]


def bert_graph(
    weights: Mapping[str, NDArray[np.float32]],
    config: Mapping[str, Any],
    ranges: Ranges | None = None,
) -> Graph:
    """The graph from `ids` and `mask` [B, L] to `hidden` [B, L, D], the last layer's vectors.

    Args:
        weights: by the names of `BertModel`.
        config: the BERT's.
        ranges: makes it int8; from a measuring graph.

    Raises:
        KeyError: a weight is missing.
    """
    writer = _Writer(weights, config, ranges)
    hidden = writer.bert()
    return writer.graph({"hidden": hidden})


def measuring_graph(
    weights: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any]
) -> tuple[Graph, list[str]]:
    """A graph from `ids` and `mask` to `low` and `high` [n, 1, 1], of the matrix products named."""
    writer = _Writer(weights, config, None)
    writer.bert()
    entering = writer.entering.values()
    low = writer.add("Concat", *(writer.add("ReduceMin", x, keepdims=1) for x in entering), axis=0)
    high = writer.add("Concat", *(writer.add("ReduceMax", x, keepdims=1) for x in entering), axis=0)
    return writer.graph({"low": low, "high": high}), list(writer.entering)


class _Writer:
    """Adds one node after another; a method returns the name of its result.

    Attributes:
        entering: what enters each matrix product, by the product's name.
    """

    def __init__(
        self,
        weights: Mapping[str, NDArray[np.float32]],
        config: Mapping[str, Any],
        ranges: Ranges | None,
    ) -> None:
        self.entering: dict[str, str] = {}
        self._weights = weights
        self._heads = int(config["num_attention_heads"])
        self._layers = int(config["num_hidden_layers"])
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))
        self._ranges = ranges
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._outside: dict[str, NDArray[Any]] = {}

    def bert(self) -> str:
        x_BLD = self._embeddings()
        for layer in range(self._layers):
            x_BLD = self._layer(f"encoder.layer.{layer}.", x_BLD)
        return x_BLD

    def graph(self, outputs: Mapping[str, str]) -> Graph:
        for name, source in outputs.items():
            self._nodes.append(helper.make_node("Identity", [source], [name]))
        graph = helper.make_graph(
            self._nodes,
            "bert",
            [
                helper.make_tensor_value_info("ids", TensorProto.INT64, ["B", "L"]),
                helper.make_tensor_value_info("mask", TensorProto.INT64, ["B", "L"]),
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [*self._constants, *map(_outside, self._outside, self._outside.values())],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(_OWN, 1)],
            ir_version=8,
        )
        return Graph(model.SerializeToString(), self._outside)

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: int | float) -> str:
        result = f"{operator}_{len(self._nodes)}"
        node = helper.make_node(operator, inputs, [result], domain=domain)
        node.attribute.extend(helper.make_attribute(key, attributes[key]) for key in attributes)
        self._nodes.append(node)
        return result

    def _embeddings(self) -> str:
        words = self._keep("words", self._weights["embeddings.word_embeddings.weight"])
        # A text is one segment, so its token type adds the same everywhere.
        positions = self._keep(
            "positions",
            self._weights["embeddings.position_embeddings.weight"]
            + self._weights["embeddings.token_type_embeddings.weight"][0],
        )
        length = self.add("Shape", "ids", start=1, end=2)
        here = self.add("Slice", positions, self._constant([0]), length, self._constant([0]))
        x_BLD = self.add("Add", self.add("Gather", words, "ids"), here)
        norm = "embeddings.LayerNorm."
        return self.add(
            "LayerNormalization",
            x_BLD,
            self._weight(norm + "weight"),
            self._weight(norm + "bias"),
            axis=-1,
            epsilon=self._epsilon,
        )

    def _layer(self, name: str, x_BLD: str) -> str:
        attended = self._attention(name + "attention.self.", x_BLD)
        y_BLD = self._product(name + "attention.output.dense.", attended)
        x_BLD = self._add_and_norm(name + "attention.output.", y_BLD, x_BLD)
        inner = self._product(name + "intermediate.dense.", x_BLD)
        bias = self._weight(name + "intermediate.dense.bias")
        inner = self.add("BiasGelu", inner, bias, domain=_OWN)
        y_BLD = self._product(name + "output.dense.", inner)
        return self._add_and_norm(name + "output.", y_BLD, x_BLD)

    def _attention(self, name: str, x_BLD: str) -> str:
        parts = ("query", "key", "value")
        weight = np.concatenate([self._weights[f"{name}{part}.weight"].T for part in parts], 1)
        bias = self._keep(
            name + "bias", np.concatenate([self._weights[f"{name}{part}.bias"] for part in parts])
        )
        self.entering[name] = x_BLD
        mask = self.add("Cast", "mask", to=TensorProto.INT32)
        if self._ranges is None:
            weights = self._keep(name + "weight", weight)
            return self.add(
                "Attention", x_BLD, weights, bias, mask, domain=_OWN, num_heads=self._heads
            )
        x, x_scale, x_zero = self._rounded(name, x_BLD)
        w, w_scale, w_zero = self._rounded_weight(name, weight)
        return self.add(
            "QAttention",
            *(x, w, bias, x_scale, w_scale, mask, x_zero, w_zero),
            domain=_OWN,
            num_heads=self._heads,
        )

    def _product(self, name: str, x_BLD: str) -> str:
        weight = self._weights[name + "weight"].T
        self.entering[name] = x_BLD
        if self._ranges is None:
            return self.add("MatMul", x_BLD, self._keep(name + "weight", weight))
        x, x_scale, x_zero = self._rounded(name, x_BLD)
        w, w_scale, w_zero = self._rounded_weight(name, weight)
        return self.add("MatMulIntegerToFloat", x, w, x_scale, w_scale, x_zero, w_zero, domain=_OWN)

    def _add_and_norm(self, name: str, y_BLD: str, x_BLD: str) -> str:
        return self.add(
            "SkipLayerNormalization",
            y_BLD,
            x_BLD,
            self._weight(name + "LayerNorm.weight"),
            self._weight(name + "LayerNorm.bias"),
            self._weight(name + "dense.bias"),
            domain=_OWN,
            epsilon=self._epsilon,
        )

    def _rounded(self, name: str, x_BLD: str) -> tuple[str, str, str]:
        """What enters a product, as unsigned bytes; their step; and the byte that stands for 0."""
        assert self._ranges is not None  # noqa: S101 - asked for in int8 alone
        low, high = self._ranges[name]
        step = np.float32((high - low) / 255)
        scale = self._constant(step)
        zero = self._constant(np.uint8(np.clip(np.rint(-low / step), 0, 255)))
        return self.add("QuantizeLinear", x_BLD, scale, zero), scale, zero

    def _rounded_weight(self, name: str, weight: NDArray[np.float32]) -> tuple[str, str, str]:
        """A weight as unsigned bytes, with a step of its own for every column."""
        step = np.abs(weight).max(axis=0) / (_MIDDLE - 1)
        step = np.where(step == 0, np.float32(1), step).astype(np.float32)
        rounded = (np.rint(weight / step) + _MIDDLE).astype(np.uint8)
        zero = np.full(step.shape, _MIDDLE, dtype=np.uint8)
        return (
            self._keep(name + "weight", rounded),
            self._constant(step),
            self._constant(zero),
        )

    def _weight(self, name: str) -> str:
        return self._keep(name, self._weights[name])

    def _keep(self, name: str, array: NDArray[Any]) -> str:
        self._outside[name] = np.ascontiguousarray(array)
        return name

    def _constant(self, value: list[int] | NDArray[Any] | np.generic) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _outside(name: str, array: NDArray[Any]) -> onnx.TensorProto:
    """What stands in the graph for a weight that is handed over beside it."""
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        dims=array.shape,
        data_location=TensorProto.EXTERNAL,
    )
    # Read by nobody, and asked for by the format.
    for key, value in (("location", "memory"), ("offset", "0"), ("length", str(array.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return tensor
