"""Tiny ONNX graphs for the pipeline's probe and tests. Run: python make_onnx_fixtures.py PIPELINE_PACKAGE_DIR   (needs: onnx)

probe.onnx          y = relu(x @ w), float32: run on a provider to see whether it really works
float16-scale.onnx  y = x * scale, float16, scale rank 0: float16 in and out
casts.onnx          int32 ids [n], int64 timestep rank 0 -> sum of both, as float32 [n]: feeds cast to what a graph declares
bool-input.onnx     a bool input, which the pipeline never feeds
bool-output.onnx    a bool output, which it cannot read
transformer-mixed-inputs.onnx     an SD3 transformer's inputs and output, pooled_projections float32, the rest float16
transformer-one-row.onnx          the same in float32, pooled_projections with a batch axis of 1
external-data/model.onnx          a VAE decoder whose weights are in model.onnx.data: colour k is channel k times k + 1, 8 pixels a latent
transformer-scalar-timestep.onnx  an SD3 transformer's inputs and output, timestep rank 0: hidden_states * timestep, in float16
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL


def value(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def save(path, nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="easel", ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    print(path, path.stat().st_size, "bytes")


package = Path(sys.argv[1])
fixtures = package / "test" / "fixtures"

weights = numpy_helper.from_array(np.array([[1, -2], [3, 4]], dtype=np.float32), "w")
save(
    package / "src" / "models" / "probe.onnx",
    [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Relu", ["xw"], ["y"])],
    [value("x", FLOAT, [2, 2])],
    [value("y", FLOAT, [2, 2])],
    [weights],
)
save(
    fixtures / "float16-scale.onnx",
    [helper.make_node("Mul", ["x", "scale"], ["y"])],
    [value("x", HALF, ["n"]), value("scale", HALF, [])],
    [value("y", HALF, ["n"])],
)
save(
    fixtures / "casts.onnx",
    [
        helper.make_node("Cast", ["ids"], ["ids_f"], to=FLOAT),
        helper.make_node("Cast", ["timestep"], ["timestep_f"], to=FLOAT),
        helper.make_node("Add", ["ids_f", "timestep_f"], ["y"]),
    ],
    [value("ids", INT32, ["n"]), value("timestep", INT64, [])],
    [value("y", FLOAT, ["n"])],
)
save(
    fixtures / "bool-input.onnx",
    [helper.make_node("Cast", ["mask"], ["y"], to=FLOAT)],
    [value("mask", BOOL, ["n"])],
    [value("y", FLOAT, ["n"])],
)
save(
    fixtures / "transformer-scalar-timestep.onnx",
    [
        helper.make_node("ReduceSum", ["encoder_hidden_states"], ["text_sum"], keepdims=0),
        helper.make_node("ReduceSum", ["pooled_projections"], ["pooled_sum"], keepdims=0),
        helper.make_node("Mul", ["hidden_states", "timestep"], ["scaled"]),
        helper.make_node("Mul", ["text_sum", "zero"], ["text_zero"]),
        helper.make_node("Mul", ["pooled_sum", "zero"], ["pooled_zero"]),
        helper.make_node("Add", ["scaled", "text_zero"], ["with_text"]),
        helper.make_node("Add", ["with_text", "pooled_zero"], ["out_hidden_states"]),
    ],
    [
        value("hidden_states", HALF, ["batch_size", 16, "height", "width"]),
        value("timestep", HALF, []),
        value("encoder_hidden_states", HALF, ["batch_size", "sequence_length", 8]),
        value("pooled_projections", HALF, ["batch_size", 8]),
    ],
    [value("out_hidden_states", HALF, ["batch_size", 16, "height", "width"])],
    [numpy_helper.from_array(np.array(0, dtype=np.float16), "zero")],
)
save(
    fixtures / "bool-output.onnx",
    [helper.make_node("Cast", ["x"], ["y"], to=BOOL)],
    [value("x", FLOAT, ["n"])],
    [value("y", BOOL, ["n"])],
)
save(
    fixtures / "transformer-mixed-inputs.onnx",
    [
        helper.make_node("Cast", ["pooled_projections"], ["pooled"], to=HALF),
        helper.make_node("ReduceSum", ["encoder_hidden_states"], ["text_sum"], keepdims=0),
        helper.make_node("ReduceSum", ["pooled"], ["pooled_sum"], keepdims=0),
        helper.make_node("Add", ["text_sum", "pooled_sum"], ["sum"]),
        helper.make_node("Add", ["hidden_states", "sum"], ["with_text"]),
        helper.make_node("Add", ["with_text", "timestep"], ["out_hidden_states"]),
    ],
    [
        value("hidden_states", HALF, ["batch_size", 16, "height", "width"]),
        value("timestep", HALF, []),
        value("encoder_hidden_states", HALF, ["batch_size", "sequence_length", 128]),
        value("pooled_projections", FLOAT, ["batch_size", 128]),
    ],
    [value("out_hidden_states", HALF, ["batch_size", 16, "height", "width"])],
)
save(
    fixtures / "transformer-one-row.onnx",
    [
        helper.make_node("ReduceSum", ["encoder_hidden_states"], ["text_sum"], keepdims=0),
        helper.make_node("ReduceSum", ["pooled_projections"], ["pooled_sum"], keepdims=0),
        helper.make_node("ReduceSum", ["timestep"], ["time_sum"], keepdims=0),
        helper.make_node("Sum", ["hidden_states", "text_sum", "pooled_sum", "time_sum"], ["out_hidden_states"]),
    ],
    [
        value("hidden_states", FLOAT, ["batch_size", 16, "height", "width"]),
        value("timestep", FLOAT, ["step"]),
        value("encoder_hidden_states", FLOAT, ["batch_size", "sequence_length", 128]),
        value("pooled_projections", FLOAT, [1, 128]),
    ],
    [value("out_hidden_states", FLOAT, ["batch_size", 16, "height", "width"])],
)

mixing = np.zeros((3, 16, 1, 1), dtype=np.float32)
for channel in range(3):
    mixing[channel, channel] = channel + 1
decoder = helper.make_graph(
    [
        helper.make_node("Conv", ["latent_sample", "weight"], ["mixed"]),
        helper.make_node("Resize", ["mixed", "", "scales"], ["sample"], mode="nearest", coordinate_transformation_mode="asymmetric"),
    ],
    "decoder",
    [value("latent_sample", FLOAT, ["batch_size", 16, "height", "width"])],
    [value("sample", FLOAT, ["batch_size", 3, "rows", "columns"])],
    [numpy_helper.from_array(mixing, "weight"), numpy_helper.from_array(np.array([1, 1, 8, 8], dtype=np.float32), "scales")],
)
external = fixtures / "external-data" / "model.onnx"
external.parent.mkdir(parents=True, exist_ok=True)
external.with_name("model.onnx.data").unlink(missing_ok=True)
onnx.save(
    helper.make_model(decoder, opset_imports=[helper.make_opsetid("", 18)], producer_name="easel", ir_version=9),
    external,
    save_as_external_data=True,
    location="model.onnx.data",
    size_threshold=100,
)
print(external)
