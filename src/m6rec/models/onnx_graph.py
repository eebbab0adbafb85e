"""Write the user's side of towers as an ONNX graph; needs torch and onnx."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from m6rec.arrays import Ids, State, nest, unnest
from m6rec.config import to_table
from m6rec.models.base import Model
from m6rec.models.distil import DistilledModel
from m6rec.models.networks import Towers as Network
from m6rec.models.networks import UserSide
from m6rec.models.onnx import Onnx, OnnxModel
from m6rec.models.tables import to_int8
from m6rec.models.towers import TowersModel

AXES = {
    "vectors": {0: "batch", 1: "length"},
    "gap": {0: "batch", 1: "length"},
    "count": {0: "batch"},
    "attributes": {0: "batch"},
    "latent": {0: "batch"},
    "user": {0: "batch"},
}


def converted(model: Model, int8: bool = False) -> OnnxModel:
    """Return the model that onnxruntime scores alike, or nearly so with int8."""
    assert isinstance(model, TowersModel)
    given = model.state()
    names = ("known", "item_domain", "average", "sizes")
    state: State = {name: given[name] for name in names} | _tables(model, int8)
    state |= nest("new", unnest("new", given))
    if model.pct is not None:
        state |= nest("pct", model.pct.state())
    graph = to_graph(model.network, model.vectors.shape[1], given["sizes"])
    if int8:
        graph = quantised(graph)
    state["graph"] = np.frombuffer(graph, np.uint8)
    state["length"] = np.array(model.recipe.length)
    return OnnxModel(Onnx(towers=to_table(model.recipe), int8=int8), state)


def to_graph(network: Network, dim: int, sizes: Ids) -> bytes:
    """Return the ONNX file of a network: vectors, gap, count, attributes, latent → user, of any
    batch and length. An input that the network does not use is left out. sizes: of
    ``make_network``."""
    width, latent, domains = sizes.tolist()[:3]
    example = (
        torch.zeros(2, 3, dim), torch.zeros(2, 3, dtype=torch.int64), torch.tensor([3, 1]),
        torch.zeros(2, width), torch.zeros(2, domains, latent),
    )  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        torch.inference_mode(),
    ):
        file = Path(folder, "towers.onnx")
        warnings.simplefilter("ignore")  # the tracing exporter warns of itself and of its guesses
        torch.onnx.export(
            UserSide(network).eval(),
            example,
            file,
            input_names=[name for name in AXES if name != "user"],
            output_names=["user"],
            dynamic_axes=AXES,
            opset_version=17,
            dynamo=False,  # the newer exporter cannot leave the length of a GRU open
        )
        return file.read_bytes()


def quantised(graph: bytes) -> bytes:
    """Return a graph whose products are of 8-bit whole numbers (dynamic quantisation); weights of
    7, since processors without VNNI add pairs of products in 16 bits, which 8 would overflow."""
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        given, ready, after = (Path(folder, f"{n}.onnx") for n in ("float", "ready", "int8"))
        given.write_bytes(graph)
        quant_pre_process(given, ready, skip_symbolic_shape=True)
        options = {"per_channel": True, "reduce_range": True}
        quantize_dynamic(ready, after, weight_type=QuantType.QInt8, **options)
        return after.read_bytes()


def _tables(model: TowersModel, int8: bool) -> State:
    """What is stored of the items: keys only where they are not the vectors."""
    if isinstance(model, DistilledModel):
        given = model.state()
        names = {"vectors": "items", "item_bias": "bias"}
        state = {
            f"{name}_{part}": given[f"net/{inside}.{part}"]
            for name, inside in names.items()
            for part in ("codes", "codebook")
        } | nest("later", unnest("later", given))
    else:
        state = to_int8("vectors", model.vectors) if int8 else {"vectors": model.vectors}
        state["item_bias"] = model.bias[:, None]
    if not np.array_equal(model.keys, model.vectors):
        state["keys"] = model.keys
    return state
