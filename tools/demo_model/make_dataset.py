"""Draws the training set of the demo model: pictures and their captions.

    python make_dataset.py DATASET --count 30000

DATASET gets images.npy, (count, 128, 128, 3) bytes of RGB, and captions.json, a list of as many texts.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
from scenes import SIDE, draw_scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder to write")
    parser.add_argument("--count", type=int, default=30_000, help="scenes to draw (default: 30000)")
    parser.add_argument("--seed", type=int, default=1000, help="seed of the random generator (default: 1000)")
    arguments = parser.parse_args()

    arguments.dataset.mkdir(parents=True, exist_ok=True)
    shape = (arguments.count, SIDE, SIDE, 3)
    images = np.lib.format.open_memmap(arguments.dataset / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    rng = random.Random(arguments.seed)
    captions = []
    for index in range(arguments.count):
        image, caption = draw_scene(rng)
        images[index] = np.asarray(image)
        captions.append(caption)
    images.flush()
    (arguments.dataset / "captions.json").write_text(json.dumps(captions))
    print(f"{arguments.count} scenes in {arguments.dataset}")


if __name__ == "__main__":
    main()
