"""torch's own transformer on the same weights, as forward.ts runs ours: one line of JSON. Needs torch, diffusers and safetensors."""

import json
import resource
import sys
import time
import warnings

import torch
from diffusers import SD3Transformer2DModel
from safetensors.torch import load_file

warnings.filterwarnings("ignore")
request = json.loads(sys.argv[1])
device = request.get("device", "cpu")
dtype = getattr(torch, request.get("dtype", "float32"))
folder = f"{request['folder']}/transformer"
config = {key: value for key, value in json.load(open(f"{folder}/config.json")).items() if not key.startswith("_")}

begun = time.perf_counter()
with torch.device("meta"):
    model = SD3Transformer2DModel(**config)
weights = load_file(f"{folder}/diffusion_pytorch_model.safetensors")
for name in list(weights):
    weights[name] = weights[name].to(device, dtype)
# Loading is strict, so success proves that every tensor is present and has the real model's shape.
model.load_state_dict(weights, assign=True)
model.eval()
load_ms = (time.perf_counter() - begun) * 1000
forward = torch.compile(model) if request.get("compile") else model

rows, side, tokens = request["rows"], request["side"] // 8, request["tokens"]
inputs = {
    "hidden_states": torch.randn(rows, 16, side, side, dtype=dtype, device=device),
    "encoder_hidden_states": torch.randn(rows, tokens, config["joint_attention_dim"], dtype=dtype, device=device),
    "pooled_projections": torch.randn(rows, config["pooled_projection_dim"], dtype=dtype, device=device),
    "timestep": torch.full((rows,), 500.0, device=device),
}
run_ms, cpu_ms = [], []
with torch.inference_mode():
    for run in range(-1, request["runs"]):
        started, cpu = time.perf_counter(), time.process_time()
        forward(**inputs).sample.sum().item()
        if run >= 0:
            run_ms.append((time.perf_counter() - started) * 1000)
            cpu_ms.append((time.process_time() - cpu) * 1000)

host_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
device_mib = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0
print(json.dumps({"loadMs": load_ms, "runMs": run_ms, "cpuMs": cpu_ms, "residentMib": host_mib, "deviceMib": device_mib}))
