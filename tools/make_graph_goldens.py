"""Makes the references of single graphs: what torch computes with each part of a model in diffusers' layout (packages/pipeline/test/golden/graphs).

    python make_graph_goldens.py GOLDEN MODEL...

For each MODEL, GOLDEN/NAME.json holds outputs as base64 of float32. Inputs come from torch.randn with the seeds below, which the tests draw again;
stored weights are cast up to float32.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from transformers import CLIPTextModelWithProjection, T5EncoderModel

from golden_values import encode_floats, generator, write_json

TIMESTEPS = [987.380615234375, 8.928571701049805]
CLIP_IDS = [[0, 5, 9, 33, 1] + [1] * 15, [0, 77, 1] + [1] * 17]
T5_IDS = [[5, 9, 33, 1] + [0] * 146]
"""Long enough for every bucket of distances."""


def randn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed))


def load(cls, folder: Path, part: str):
    return cls.from_pretrained(folder, subfolder=part, torch_dtype=torch.float32).eval()


def transformer_outputs(folder: Path) -> dict[str, str]:
    transformer = load(SD3Transformer2DModel, folder, "transformer")
    config = transformer.config
    inputs = (
        randn(1, 2, config.in_channels, 8, 12),
        randn(2, 2, 20, config.joint_attention_dim),
        randn(3, 2, config.pooled_projection_dim),
        torch.tensor(TIMESTEPS),
    )
    return {
        "transformer": encode_floats(transformer(*inputs).sample),
        "transformer_skipping_1": encode_floats(transformer(*inputs, skip_layers=[1]).sample),
    }


def autoencoder_outputs(folder: Path) -> dict[str, str]:
    autoencoder = load(AutoencoderKL, folder, "vae")
    channels = autoencoder.config.latent_channels
    latents = autoencoder.encode(randn(5, 1, 3, 32, 48)).latent_dist
    return {
        "vae_decoder": encode_floats(autoencoder.decode(randn(4, 1, channels, 4, 6)).sample),
        "vae_encoder": encode_floats(torch.cat([latents.mean, latents.logvar], 1)),
    }


def text_outputs(folder: Path) -> dict:
    outputs: dict = {}
    for part in ("text_encoder", "text_encoder_2"):
        output = load(CLIPTextModelWithProjection, folder, part)(torch.tensor(CLIP_IDS), output_hidden_states=True)
        outputs[part] = {"pooled": encode_floats(output.text_embeds), "hidden": encode_floats(output.hidden_states[-2])}
    if (folder / "text_encoder_3").exists():
        output = load(T5EncoderModel, folder, "text_encoder_3")(torch.tensor(T5_IDS))
        outputs["text_encoder_3_last_tokens"] = encode_floats(output.last_hidden_state[:, -4:])
    return outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path, help="folder to write")
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="folder in diffusers' layout")
    arguments = parser.parse_args()

    for folder in arguments.models:
        with torch.inference_mode():
            outputs = {**transformer_outputs(folder), **autoencoder_outputs(folder), **text_outputs(folder)}
        write_json(arguments.golden / f"{folder.resolve().name}.json", outputs, indent=None)
        print(folder.name)


if __name__ == "__main__":
    main()
