"""Makes the tiny ONNX graphs of the pipeline's probe and tests.

    python make_onnx_fixtures.py PIPELINE_PACKAGE

PIPELINE_PACKAGE/src/models/probe.onnx          y = relu(x @ w), float32: run on a provider to see whether it really works
PIPELINE_PACKAGE/test/fixtures/
  float16-scale.onnx                y = x * scale, float16, scale rank 0: float16 in and out
  casts.onnx                        int32 ids [n], int64 timestep rank 0 -> sum of both, as float32 [n]: feeds cast to what a graph declares
  bool-input.onnx                   a bool input, which the pipeline never feeds
  bool-output.onnx                  a bool output, which it cannot read
  transformer-mixed-inputs.onnx     an SD3 transformer's inputs and output, pooled_projections float32, the rest float16
  transformer-scalar-timestep.onnx  an SD3 transformer's inputs and output, timestep rank 0: hidden_states * timestep, in float16
  transformer-one-row.onnx          an SD3 transformer's inputs and output in float32, pooled_projections with a batch axis of 1
  external-data/model.onnx          a VAE decoder with weights in model.onnx.data: colour k is channel k times k + 1, 8 pixels a latent
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
LATENTS = ["batch_size", 16, "height", "width"]
"""Shape of the latents that go into a transformer and come out of it."""

node, value = helper.make_node, helper.make_tensor_value_info


def constant(name: str, values: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(values, name)


def to_model(name: str, nodes, inputs, outputs, constants=()) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, name, inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="easel", ir_version=9)
    onnx.checker.check_model(model)
    return model


def transformer_inputs(
    dtype: int, text_width: int, pooled: list, pooled_dtype: int | None = None, timestep: tuple = ()
) -> list[onnx.ValueInfoProto]:
    return [
        value("hidden_states", dtype, LATENTS),
        value("timestep", dtype, list(timestep)),
        value("encoder_hidden_states", dtype, ["batch_size", "sequence_length", text_width]),
        value("pooled_projections", dtype if pooled_dtype is None else pooled_dtype, pooled),
    ]


def probe() -> onnx.ModelProto:
    nodes = [node("MatMul", ["x", "w"], ["xw"]), node("Relu", ["xw"], ["y"])]
    weights = constant("w", np.array([[1, -2], [3, 4]], dtype=np.float32))
    return to_model("probe", nodes, [value("x", FLOAT, [2, 2])], [value("y", FLOAT, [2, 2])], [weights])


def float16_scale() -> onnx.ModelProto:
    inputs = [value("x", HALF, ["n"]), value("scale", HALF, [])]
    return to_model("float16-scale", [node("Mul", ["x", "scale"], ["y"])], inputs, [value("y", HALF, ["n"])])


def casts() -> onnx.ModelProto:
    nodes = [
        node("Cast", ["ids"], ["ids_f"], to=FLOAT),
        node("Cast", ["timestep"], ["timestep_f"], to=FLOAT),
        node("Add", ["ids_f", "timestep_f"], ["y"]),
    ]
    inputs = [value("ids", INT32, ["n"]), value("timestep", INT64, [])]
    return to_model("casts", nodes, inputs, [value("y", FLOAT, ["n"])])


def bool_input() -> onnx.ModelProto:
    nodes = [node("Cast", ["mask"], ["y"], to=FLOAT)]
    return to_model("bool-input", nodes, [value("mask", BOOL, ["n"])], [value("y", FLOAT, ["n"])])


def bool_output() -> onnx.ModelProto:
    nodes = [node("Cast", ["x"], ["y"], to=BOOL)]
    return to_model("bool-output", nodes, [value("x", FLOAT, ["n"])], [value("y", BOOL, ["n"])])


def transformer_mixed_inputs() -> onnx.ModelProto:
    nodes = [
        node("Cast", ["pooled_projections"], ["pooled"], to=HALF),
        node("ReduceSum", ["encoder_hidden_states"], ["text_sum"], keepdims=0),
        node("ReduceSum", ["pooled"], ["pooled_sum"], keepdims=0),
        node("Add", ["text_sum", "pooled_sum"], ["sum"]),
        node("Add", ["hidden_states", "sum"], ["with_text"]),
        node("Add", ["with_text", "timestep"], ["out_hidden_states"]),
    ]
    inputs = transformer_inputs(HALF, 128, ["batch_size", 128], pooled_dtype=FLOAT)
    return to_model("transformer-mixed-inputs", nodes, inputs, [value("out_hidden_states", HALF, LATENTS)])


def transformer_scalar_timestep() -> onnx.ModelProto:
    nodes = [
        node("ReduceSum", ["encoder_hidden_states"], ["text_sum"], keepdims=0),
        node("ReduceSum", ["pooled_projections"], ["pooled_sum"], keepdims=0),
        node("Mul", ["hidden_states", "timestep"], ["scaled"]),
        node("Mul", ["text_sum", "zero"], ["text_zero"]),
        node("Mul", ["pooled_sum", "zero"], ["pooled_zero"]),
        node("Add", ["scaled", "text_zero"], ["with_text"]),
        node("Add", ["with_text", "pooled_zero"], ["out_hidden_states"]),
    ]
    inputs = transformer_inputs(HALF, 8, ["batch_size", 8])
    zero = constant("zero", np.array(0, dtype=np.float16))
    return to_model("transformer-scalar-timestep", nodes, inputs, [value("out_hidden_states", HALF, LATENTS)], [zero])


def transformer_one_row() -> onnx.ModelProto:
    nodes = [
        node("ReduceSum", ["encoder_hidden_states"], ["text_sum"], keepdims=0),
        node("ReduceSum", ["pooled_projections"], ["pooled_sum"], keepdims=0),
        node("ReduceSum", ["timestep"], ["time_sum"], keepdims=0),
        node("Sum", ["hidden_states", "text_sum", "pooled_sum", "time_sum"], ["out_hidden_states"]),
    ]
    inputs = transformer_inputs(FLOAT, 128, [1, 128], timestep=("step",))
    return to_model("transformer-one-row", nodes, inputs, [value("out_hidden_states", FLOAT, LATENTS)])


def decoder() -> onnx.ModelProto:
    mixing = np.zeros((3, 16, 1, 1), dtype=np.float32)
    for channel in range(3):
        mixing[channel, channel] = channel + 1
    nodes = [
        node("Conv", ["latent_sample", "weight"], ["mixed"]),
        node("Resize", ["mixed", "", "scales"], ["sample"], mode="nearest", coordinate_transformation_mode="asymmetric"),
    ]
    constants = [constant("weight", mixing), constant("scales", np.array([1, 1, 8, 8], dtype=np.float32))]
    outputs = [value("sample", FLOAT, ["batch_size", 3, "rows", "columns"])]
    return to_model("decoder", nodes, [value("latent_sample", FLOAT, LATENTS)], outputs, constants)


def save(model: onnx.ModelProto, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    print(path, path.stat().st_size, "bytes")


def save_with_external_data(model: onnx.ModelProto, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.with_name(f"{path.name}.data")
    # An existing file would be appended to.
    data.unlink(missing_ok=True)
    onnx.save(model, path, save_as_external_data=True, location=data.name, size_threshold=100)
    data.chmod(0o644)
    print(path, data.stat().st_size, "bytes of weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="folder of the package, packages/pipeline")
    package = parser.parse_args().package

    save(probe(), package / "src" / "models" / "probe.onnx")
    fixtures = package / "test" / "fixtures"
    for make in (
        float16_scale,
        casts,
        bool_input,
        bool_output,
        transformer_mixed_inputs,
        transformer_scalar_timestep,
        transformer_one_row,
    ):
        save(make(), fixtures / f"{make.__name__.replace('_', '-')}.onnx")
    save_with_external_data(decoder(), fixtures / "external-data" / "model.onnx")


if __name__ == "__main__":
    main()
