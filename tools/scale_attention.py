"""Scales the weights and biases of all queries and keys in a transformer, in place. Run: python scale_attention.py TRANSFORMER_DIR FACTOR

A random model without norms of queries and keys has scores in the hundreds: its softmax jumps from token to token, and torch in float32 is 0.1
away from torch in float64 after four steps. Scaled by 0.1 it is as well-behaved as a trained one, and can tell a wrong graph from a right one.
"""
import sys

from safetensors.torch import load_file, save_file

folder, factor = sys.argv[1], float(sys.argv[2])
path = f"{folder}/diffusion_pytorch_model.safetensors"
tensors = load_file(path)
for name, tensor in tensors.items():
    if any(part in name for part in (".to_q.", ".to_k.", ".add_q_proj.", ".add_k_proj.")):
        tensors[name] = (tensor.float() * factor).to(tensor.dtype)
save_file(tensors, path, metadata={"format": "pt"})
