"""Makes the references of single graphs: what torch computes with each part of a model in diffusers' layout (packages/pipeline/test/golden/graphs).

    python make_graph_goldens.py GOLDEN MODEL...

For each MODEL, GOLDEN/NAME.json holds outputs as base64 of float32. GOLDEN/activations.json holds the outputs of the text encoders of the first
MODEL that has T5, with other activations than their own. A T5 whose feed-forward has no gate gets the gate's matrix as its first. Inputs come from
torch.randn with the seeds below, which the tests draw again. Stored weights are cast up to float32.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from golden_values import encode_floats, generator, write_json

TIMESTEPS = [987.380615234375, 8.928571701049805]
ACTIVATIONS = ["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu"]
CLIP_IDS = [[0, 5, 9, 33, 1] + [1] * 15, [0, 77, 1] + [1] * 17]
T5_IDS = [[5, 9, 33, 1] + [0] * 146]
"""150 tokens, which is enough to reach every bucket of T5's relative positions."""


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


def activation_outputs(folder: Path) -> dict:
    clip = load(CLIPTextModelWithProjection, folder, "text_encoder")
    gated = load(T5EncoderModel, folder, "text_encoder_3")
    ungated = {name.replace(".wi_0.", ".wi."): value for name, value in gated.state_dict().items() if ".wi_1." not in name}

    def draw_t5(name: str, weights: dict) -> str:
        # T5Config derives these two from feed_forward_proj, so they must not be passed on.
        config = {key: value for key, value in gated.config.to_dict().items() if key not in ("is_gated_act", "dense_act_fn")}
        model = T5EncoderModel(T5Config(**{**config, "feed_forward_proj": name})).eval()
        model.load_state_dict(weights)
        return encode_floats(model(torch.tensor(T5_IDS)).last_hidden_state[:, -1:])

    outputs = {}
    for name in ACTIVATIONS:
        other = CLIPTextModelWithProjection(CLIPTextConfig(**{**clip.config.to_dict(), "hidden_act": name})).eval()
        other.load_state_dict(clip.state_dict())
        outputs[name] = {
            "text_encoder": encode_floats(other(torch.tensor(CLIP_IDS)).text_embeds),
            "text_encoder_3": draw_t5(name, ungated),
            "text_encoder_3_gated": draw_t5(f"gated-{name}", gated.state_dict()),
        }
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
    with torch.inference_mode():
        with_t5 = next(folder for folder in arguments.models if (folder / "text_encoder_3").exists())
        write_json(arguments.golden / "activations.json", activation_outputs(with_t5), indent=None)


if __name__ == "__main__":
    main()
