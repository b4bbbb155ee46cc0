"""Trains the autoencoder of the demo model, in two rounds.

    python train_autoencoder.py DATASET AUTOENCODER --steps 4000
    python train_autoencoder.py DATASET AUTOENCODER --steps 2500 --decoder-of AUTOENCODER

The autoencoder is fully convolutional, so the first round trains all of it on crops of 64 pixels. Its encoder is good long before its decoder is
sharp, so the second round trains the decoder alone, on the encoder's latents. The second round does not change the latents, so the transformer
can be trained before or after it. On two cores the first round takes about 25 minutes, the second 30.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from training import AveragedWeights, Progress, learning_rate, load_images, set_learning_rate, to_batch, update

LATENT_SIDE, SCALE = 16, 8
DECODER_IMAGES = 8000
"""Number of pictures that the decoder is trained on; their latents are held in memory."""


def build_autoencoder() -> AutoencoderKL:
    """16 channels of latents at an eighth of the sides, as in Stable Diffusion 3, but 1.1 million parameters."""
    widths = (24, 48, 64, 64)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=128,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def difference(made: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of the colours and that of the edges, which flat pictures with sharp borders need."""
    colours = F.l1_loss(made, wanted) + 0.5 * F.mse_loss(made, wanted)
    edges = sum(F.l1_loss(made.diff(dim=axis), wanted.diff(dim=axis)) for axis in (-1, -2))
    return colours, edges


def train_all(images: np.ndarray, steps: int, batch_size: int) -> AutoencoderKL:
    autoencoder = build_autoencoder().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0)
    rng = np.random.default_rng(0)
    progress = Progress()
    for step in range(steps):
        set_learning_rate(optimizer, learning_rate(1e-3, step, steps, warm_up=100))
        chosen = np.sort(rng.integers(0, len(images), batch_size))
        left, top = rng.integers(0, 65, 2)
        wanted = to_batch(images[chosen, top : top + 64, left : left + 64])
        with torch.autocast("cpu", torch.bfloat16):
            distribution = autoencoder.encode(wanted).latent_dist
            latents = distribution.sample()
            made = autoencoder.decode(latents).sample
        colours, edges = difference(made.float(), wanted)
        divergence = distribution.kl().mean() / latents[0].numel()
        # A weight of 2e-4 makes the encoder learn nothing; this one only keeps latents from growing without limit.
        update(autoencoder, optimizer, colours + 0.5 * edges + 1e-6 * divergence)
        progress.report(step + 1, steps, colours=colours.item(), edges=edges.item(), divergence=divergence.item())
    return autoencoder


@torch.no_grad()
def encode_images(autoencoder: AutoencoderKL, images: np.ndarray) -> torch.Tensor:
    """(images, 16, 16, 16), the mode of each picture's latent distribution."""
    latents = []
    for begin in range(0, len(images), 64):
        with torch.autocast("cpu", torch.bfloat16):
            latents.append(autoencoder.encode(to_batch(images[begin : begin + 64])).latent_dist.mode().float())
    return torch.cat(latents)


def train_decoder(autoencoder: AutoencoderKL, images: np.ndarray, steps: int, batch_size: int) -> AutoencoderKL:
    images = images[:DECODER_IMAGES]
    latents = encode_images(autoencoder, images)
    spread = latents.std().item()
    decoder = autoencoder.decoder.to(memory_format=torch.channels_last)
    averaged = AveragedWeights(decoder, longest=0.998)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1.5e-3, betas=(0.9, 0.95), weight_decay=0)
    rng = np.random.default_rng(1)
    progress = Progress()
    crop = 10
    for step in range(steps):
        set_learning_rate(optimizer, learning_rate(1.5e-3, step, steps, warm_up=100))
        chosen = np.sort(rng.integers(0, len(images), batch_size))
        top, left = rng.integers(0, LATENT_SIDE - crop + 1, 2)
        given = latents[chosen][:, :, top : top + crop, left : left + crop]
        # The transformer's latents will be slightly wrong, so the decoder learns to tolerate noise.
        noisy = given + torch.randn_like(given) * spread * 0.08
        pixels = images[chosen, top * SCALE : (top + crop) * SCALE, left * SCALE : (left + crop) * SCALE]
        with torch.autocast("cpu", torch.bfloat16):
            made = decoder(noisy.contiguous(memory_format=torch.channels_last))
        inner = inside(top, crop), inside(left, crop)
        colours, edges = difference(made.float()[:, :, *inner], to_batch(pixels)[:, :, *inner])
        update(decoder, optimizer, colours + 0.7 * edges)
        averaged.follow(step + 1)
        progress.report(step + 1, steps, colours=colours.item(), edges=edges.item())
    decoder.load_state_dict(averaged.average.state_dict())
    return autoencoder


def inside(begin: int, length: int) -> slice:
    """The pixels of a crop along one axis, without the latent at each cut edge, because it lacks its neighbour beyond the cut."""
    first = 0 if begin == 0 else SCALE
    last = length * SCALE if begin + length == LATENT_SIDE else (length - 1) * SCALE
    return slice(first, last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder of make_dataset.py")
    parser.add_argument("output", type=Path, help="folder for the autoencoder, in diffusers' layout")
    parser.add_argument("--steps", type=int, default=4000, help="(default: 4000)")
    parser.add_argument("--batch-size", type=int, default=32, help="(default: 32)")
    parser.add_argument("--decoder-of", type=Path, help="train only the decoder of this autoencoder")
    parser.add_argument("--threads", type=int, default=2, help="number of CPU threads (default: 2)")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    images = load_images(arguments.dataset)
    if arguments.decoder_of is None:
        autoencoder = train_all(images, arguments.steps, arguments.batch_size)
    else:
        autoencoder = AutoencoderKL.from_pretrained(arguments.decoder_of)
        train_decoder(autoencoder, images, arguments.steps, arguments.batch_size)
    autoencoder.save_pretrained(arguments.output)


if __name__ == "__main__":
    main()
