"""What torch computes with each part of a model in diffusers' layout, for the tests of packages/pipeline/src/graphs.

Run: python make_graph_goldens.py MODEL_DIR... OUT_DIR
For each MODEL_DIR, OUT_DIR/NAME.json holds outputs as base64 of float32. Inputs come from torch.randn with the seeds below, which the tests draw
again; stored weights are cast up to float32. Made with diffusers 0.42.1, transformers 5.24, torch 2.13 (CPU).
"""
import base64, json, os, sys

import numpy as np
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from transformers import CLIPTextModelWithProjection, T5EncoderModel

TIMESTEPS = [987.380615234375, 8.928571701049805]
CLIP_IDS = [[0, 5, 9, 33, 1] + [1] * 15, [0, 77, 1] + [1] * 17]
T5_IDS = [[5, 9, 33, 1] + [0] * 146]  # long enough for every bucket of distances


def encode(tensor):
    return base64.b64encode(np.ascontiguousarray(tensor.detach().numpy().astype("<f4")).tobytes()).decode()


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def load(cls, folder, part):
    return cls.from_pretrained(folder, subfolder=part, torch_dtype=torch.float32).eval()


def goldens(folder):
    transformer = load(SD3Transformer2DModel, folder, "transformer")
    config = transformer.config
    inputs = (
        randn(1, 2, config.in_channels, 8, 12),
        randn(2, 2, 20, config.joint_attention_dim),
        randn(3, 2, config.pooled_projection_dim),
        torch.tensor(TIMESTEPS),
    )
    vae = load(AutoencoderKL, folder, "vae")
    latents = vae.encode(randn(5, 1, 3, 32, 48)).latent_dist
    result = {
        "transformer": encode(transformer(*inputs).sample),
        "transformer_skipping_1": encode(transformer(*inputs, skip_layers=[1]).sample),
        "vae_decoder": encode(vae.decode(randn(4, 1, config.in_channels, 4, 6)).sample),
        "vae_encoder": encode(torch.cat([latents.mean, latents.logvar], 1)),
    }
    for part in ("text_encoder", "text_encoder_2"):
        output = load(CLIPTextModelWithProjection, folder, part)(torch.tensor(CLIP_IDS), output_hidden_states=True)
        result[part] = {"pooled": encode(output.text_embeds), "hidden": encode(output.hidden_states[-2])}
    if os.path.exists(f"{folder}/text_encoder_3"):
        output = load(T5EncoderModel, folder, "text_encoder_3")(torch.tensor(T5_IDS))
        result["text_encoder_3_last_tokens"] = encode(output.last_hidden_state[:, -4:])
    return result


*folders, out = sys.argv[1:]
for folder in folders:
    name = os.path.basename(os.path.normpath(folder))
    with torch.inference_mode(), open(f"{out}/{name}.json", "w") as file:
        json.dump(goldens(folder), file)
    print(name)
