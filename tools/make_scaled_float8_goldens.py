"""Makes the references of models in scaled float8: packages/pipeline/test/golden/scaled-float8.

    python make_scaled_float8_goldens.py cases/random-models.json MODELS GOLDEN

For each model in the file of kinds, read from MODELS/NAME, the matrix of every linear layer of the transformer and the text encoders is quantised
as in ComfyUI's files: its largest value becomes the largest float8_e4m3fn, and one float32 factor per matrix undoes the scaling. GOLDEN/NAME.json
holds what torch computes on the CPU in float32 with the dequantised weights: for the first case of the model, the latents after every step, the
picture, and the embeddings of the prompt. The tests quantise the same weights by the same rule.
"""

import argparse
import warnings
from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline
from torch import nn

from golden_values import read_json, write_json
from make_random_models import draw


@torch.no_grad()
def quantise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            scale = layer.weight.abs().max() / torch.finfo(torch.float8_e4m3fn).max
            layer.weight.copy_((layer.weight / scale).to(torch.float8_e4m3fn).float() * scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", type=Path, help="file of models and their cases")
    parser.add_argument("models", type=Path, help="folder of the models")
    parser.add_argument("golden", type=Path, help="folder to write references into")
    arguments = parser.parse_args()

    warnings.filterwarnings("ignore")
    for kind in read_json(arguments.kinds):
        name = kind["name"]
        none = {} if "t5" in kind else {"text_encoder_3": None, "tokenizer_3": None}
        pipeline = StableDiffusion3Pipeline.from_pretrained(arguments.models / name, torch_dtype=torch.float32, **none)
        pipeline.set_progress_bar_config(disable=True)
        for part in ("transformer", "text_encoder", "text_encoder_2", "text_encoder_3"):
            module = getattr(pipeline, part)
            if module is not None:
                quantise(module)
        case = draw(pipeline, kind["cases"][0], kind["generation"])
        write_json(arguments.golden / f"{name}.json", {"name": name, "cases": [case]}, indent=None)
        print(name, flush=True)


if __name__ == "__main__":
    main()
