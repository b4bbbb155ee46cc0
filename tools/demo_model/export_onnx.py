"""Exports a diffusers folder with optimum, and stores what is float16 anyway as float16.

    python export_onnx.py MODEL EXPORT

The graphs compute in float32. A weight that float16 can hold without loss is stored so, with a Cast that ONNX Runtime folds when it loads the
graph: half the size, and no bit of a picture changes. The folder packages/pipeline/test/models/tiny-scenes-onnx was made like this.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from optimum.exporters.onnx import main_export

SMALLEST = 64
"""Weights of fewer values stay as they are."""


def store_as_float16(path: Path) -> None:
    model = onnx.load(path)
    graph = model.graph
    casts = []
    for initializer in graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < SMALLEST:
            continue
        halves = values.astype(np.float16)
        if not np.array_equal(halves.astype(np.float32), values):
            continue
        name = initializer.name
        stored = f"{name}_f16"
        initializer.CopyFrom(numpy_helper.from_array(halves, stored))
        casts.append(helper.make_node("Cast", [stored], [name], name=f"{name}/Cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    before = path.stat().st_size
    onnx.save(model, path)
    print(f"{path.parent.name}: {before} -> {path.stat().st_size} bytes, {len(casts)} weights as float16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder in diffusers' layout")
    parser.add_argument("export", type=Path, help="folder to write")
    arguments = parser.parse_args()

    shutil.rmtree(arguments.export, ignore_errors=True)
    main_export(
        str(arguments.model),
        output=arguments.export,
        task="text-to-image",
        device="cpu",
        dtype="fp32",
        library_name="diffusers",
        do_validation=False,
    )
    for path in sorted(arguments.export.glob("*/model.onnx")):
        store_as_float16(path)
    shutil.copy(arguments.model / "generation_config.json", arguments.export)


if __name__ == "__main__":
    main()
