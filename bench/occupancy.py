"""Registers, shared memory, spills and occupancy of every CUDA kernel on an H100 or H200, without a GPU:
bench/occupancy.py PROGRAM [OUTPUT].

PROGRAM lies in a build folder with CUDA and tests, whose kernel_resources.json has what ptxas said of each kernel; what networks
take of shared memory is PROGRAM's word (perilune info --json), for two hidden layers. Occupancy follows from NVIDIA's published
limits, table "Technical specifications per compute capability" of the CUDA programming guide.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYERS = 2
# Per multiprocessor: threads, blocks, bytes of shared memory; and the most bytes a block may have. All have 65536 registers,
# given out to warps by 256, and take 1 KB of shared memory for each block themselves.
LIMITS = {"sm_90": (2048, 32, 228 << 10, 227 << 10)}
PRECISIONS = {"0": "fp32", "1": "tf32", "2": "bf16"}
# By what a kernel is a template over; an update is shared by environments that look alike, and takes any of them.
ENVIRONMENTS = {"CartPole": "CartPole-v1", "LunarLanderWith<Discrete<4>>": "LunarLander-v3",
                "LunarLanderWith<Box<2>>": "LunarLanderContinuous-v3", "LanderWith<Discrete<4>>": "Lander-v0",
                "LanderWith<Box<2>>": "LanderContinuous-v0", "Interface<4, Discrete<2>>": "CartPole-v1",
                "Interface<8, Discrete<4>>": "LunarLander-v3", "Interface<8, Box<2>>": "LunarLanderContinuous-v3"}


def occupancy(arch, registers, threads, shared):
    """Blocks per multiprocessor and what limits them."""
    most_threads, most_blocks, all_shared, most_shared = LIMITS[arch]
    if shared > most_shared:
        return 0, "shared memory per block"
    warps = threads // 32
    limits = {"threads": most_threads // threads, "blocks": most_blocks,
              "registers": 65536 // (-(-registers * 32 // 256) * 256 * warps),
              "shared memory": all_shared // (shared + 1024)}
    return min((blocks, what) for what, blocks in limits.items())


def main(program, output=ROOT / "bench/results/kernel_resources.json"):
    information = json.loads(subprocess.run([program, "info", "--json"], check=True, capture_output=True, text=True).stdout)
    storage = {(row["env"], row["hidden_width"], row["precision"]): row
               for row in information["devices"]["cuda"]["shared_memory"] if row["hidden_layers"] == LAYERS}
    built = json.loads((Path(program).resolve().parent / "kernel_resources.json").read_text())["kernels"]
    rows = {}
    for figure in built:
        arch, name = figure["arch"], figure["kernel"]
        if arch not in LIMITS:
            continue
        dynamic = 0
        threads = int(m[1]) if (m := re.search(r"(\d+), \(Precision\)", name)) else 1
        if m := re.match(r"run_kernel<(Rollout|Update|Evaluate)<(.+), (\d+)>, \d+, \(Precision\)(\d)", name):
            dynamic = storage[ENVIRONMENTS[m[2].replace("> >", ">>")], int(m[3]), PRECISIONS[m[4]]][m[1].lower()]
        shared = figure["shared_bytes"] + dynamic
        blocks, limit = occupancy(arch, max(figure["registers"], 1), max(threads, 32), shared)
        rows[arch, name] = {"arch": arch, "kernel": name, "threads": threads, "registers": figure["registers"],
                            "static_shared_bytes": figure["shared_bytes"], "dynamic_shared_bytes": dynamic,
                            "stack_bytes": figure["stack_bytes"],
                            "spill_bytes": figure["spill_store_bytes"] + figure["spill_load_bytes"],
                            "blocks_per_multiprocessor": blocks, "limited_by": limit,
                            "occupancy": round(blocks * threads / LIMITS[arch][0], 3)}
    kernels = [rows[key] for key in sorted(rows)]
    Path(output).write_text(json.dumps({"hidden_layers": LAYERS, "kernels": kernels}, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
