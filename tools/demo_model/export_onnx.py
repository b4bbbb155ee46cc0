"""Exports a diffusers folder with optimum, and stores weights as float16 where that loses nothing.

    python export_onnx.py MODEL EXPORT

The graphs compute in float32. A weight that float16 holds without loss is stored as float16, followed by a Cast that ONNX Runtime folds when it
loads the graph: half the size, and no bit of a picture changes. The folder packages/pipeline/test/models/tiny-scenes-onnx was made with it.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from optimum.exporters.onnx import main_export

TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
KNOWN_CLASS = "PreTrainedTokenizerFast"
SMALLEST = 64
"""Weights with fewer values than this stay float32."""


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


def copy_with_known_tokenizers(model: Path, copy: Path) -> None:
    """A copy that names the generic tokenizer class: a model may name classes of a newer transformers than optimum supports."""
    shutil.copytree(model, copy)
    index = json.loads((copy / "model_index.json").read_text())
    for name in TOKENIZERS:
        index[name] = ["transformers", KNOWN_CLASS]
        config = copy / name / "tokenizer_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "tokenizer_class": KNOWN_CLASS}))
    (copy / "model_index.json").write_text(json.dumps(index))


def export(model: Path, output: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / model.name
        copy_with_known_tokenizers(model, copy)
        main_export(
            str(copy),
            output=output,
            task="text-to-image",
            device="cpu",
            dtype="fp32",
            library_name="diffusers",
            do_validation=False,
        )
    for name in TOKENIZERS:
        shutil.rmtree(output / name, ignore_errors=True)
        shutil.copytree(model / name, output / name)
    for name in ("model_index.json", "generation_config.json"):
        shutil.copy(model / name, output)
    for path in output.glob("*/config.json"):
        config = json.loads(path.read_text())
        if "_name_or_path" in config:
            # It names the temporary copy.
            path.write_text(json.dumps({**config, "_name_or_path": model.resolve().name}, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder in diffusers' layout")
    parser.add_argument("export", type=Path, help="folder to write")
    arguments = parser.parse_args()

    shutil.rmtree(arguments.export, ignore_errors=True)
    export(arguments.model, arguments.export)
    for path in sorted(arguments.export.glob("*/model.onnx")):
        store_as_float16(path)


if __name__ == "__main__":
    main()
