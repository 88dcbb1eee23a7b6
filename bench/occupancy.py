"""Registers, shared memory, spills and occupancy of every CUDA kernel, without a GPU: bench/occupancy.py PROGRAM [OUTPUT].

PROGRAM lies in a build folder with CUDA, each of whose units is compiled to PTX for compute capability 8.0 and assembled for each architecture; what networks take of
shared memory is PROGRAM's word (perilune info --json), for two hidden layers. Occupancy follows from NVIDIA's published
limits, table "Technical specifications per compute capability" of the CUDA programming guide.
"""

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CUDA = Path("/usr/local/cuda/bin")
FLAGS = ["-std=c++20", "-O3", "-fmad=false", "--expt-relaxed-constexpr", "-lineinfo", "-DPERILUNE_HAS_CUDA=1", f"-I{ROOT}"]
LAYERS = 2
# Per multiprocessor: threads, blocks, bytes of shared memory; and the most bytes a block may have. All have 65536 registers,
# given out to warps by 256, and take 1 KB of shared memory for each block themselves.
LIMITS = {"sm_80": (2048, 32, 164 << 10, 163 << 10), "sm_90": (2048, 32, 228 << 10, 227 << 10),
          "sm_120": (1536, 24, 100 << 10, 99 << 10)}
PRECISIONS = {"0": "fp32", "1": "tf32", "2": "bf16"}
# By what a kernel is a template over; an update is shared by environments that look alike, and takes any of them.
ENVIRONMENTS = {"CartPole": "CartPole-v1", "LunarLanderWith<Discrete<4>>": "LunarLander-v3",
                "LunarLanderWith<Box<2>>": "LunarLanderContinuous-v3", "LanderWith<Discrete<4>>": "Lander-v0",
                "LanderWith<Box<2>>": "LanderContinuous-v0", "Interface<4, Discrete<2>>": "CartPole-v1",
                "Interface<8, Discrete<4>>": "LunarLander-v3", "Interface<8, Box<2>>": "LunarLanderContinuous-v3"}


def resources_module():
    """tools/cmake/kernel_resources.py, which reads ptxas's logs; its last line runs it as a program."""
    text = (ROOT / "tools/cmake/kernel_resources.py").read_text().replace("main(*sys.argv[1:])", "")
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("kernel_resources", None))
    exec(compile(text, "kernel_resources.py", "exec"), module.__dict__)
    return module


def assemble(source, folder):
    """{architecture: text of ptxas's log}"""
    ptx = folder / f"{source.stem}.ptx"
    subprocess.run([CUDA / "nvcc", *FLAGS, "-ptx", "-arch=compute_80", "-o", ptx, source], check=True)
    return {arch: subprocess.run([CUDA / "ptxas", "-v", "-O3", f"-arch={arch}", "-o", "/dev/null", ptx], check=True,
                                 capture_output=True, text=True).stderr for arch in LIMITS}


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
    module = resources_module()
    rows = {}  # a kernel that several units have is listed once
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        build = Path(program).resolve().parent
        sources = [ROOT / "kernels" / "cuda.cu", *sorted((build / "kernels" / "units").glob("*.cu"))]
        for source, logs in zip(sources, pool.map(lambda s: assemble(s, Path(folder)), sources)):
            for arch, log in logs.items():
                figures, _ = module.parse_log(log)
                for mangled, name in module.demangle([mangled for _, mangled in figures]).items():
                    figure, name = figures[arch, mangled], module.short(name)
                    dynamic = 0
                    threads = int(m[1]) if (m := re.search(r"(\d+), \(Precision\)", name)) else 1
                    if m := re.match(r"run_kernel<(Rollout|Update|Evaluate)<(.+), (\d+)>, \d+, \(Precision\)(\d)", name):
                        dynamic = storage[ENVIRONMENTS[m[2].replace("> >", ">>")], int(m[3]), PRECISIONS[m[4]]][m[1].lower()]
                    shared = figure["shared_bytes"] + dynamic
                    blocks, limit = occupancy(arch, max(figure["registers"], 1), max(threads, 32), shared)
                    rows[arch, name] = {"arch": arch, "kernel": name, "threads": threads, "registers": figure["registers"],
                                        "static_shared_bytes": figure["shared_bytes"], "dynamic_shared_bytes": dynamic,
                                        "spill_bytes": figure["spill_store_bytes"] + figure["spill_load_bytes"],
                                        "blocks_per_multiprocessor": blocks, "limited_by": limit,
                                        "occupancy": round(blocks * threads / LIMITS[arch][0], 3)}
    kernels = [rows[key] for key in sorted(rows)]
    Path(output).write_text(json.dumps({"hidden_layers": LAYERS, "kernels": kernels}, indent=1) + "\n")


main(*sys.argv[1:])
