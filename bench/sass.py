#!/usr/bin/env python3
"""What the SASS of every CUDA kernel asks of an H100 or H200, without a GPU: bench/sass.py [BUILD] [--check | --kernel REGEX].

BUILD is a build folder with CUDA and tests (build/release), in which nvcc_with_report kept each unit's cubin. Without more
bench/results/sass.json is written: of every kernel registers, shared memory, spills, blocks per multiprocessor and the
instructions of its text by unit; of those in WALKS, what one warp issues on its way through (sass_walk.py), the cycles that
units need for that at least, and the cycles that one warp alone would take. --check compares with what is committed.
--kernel prints the loops of kernels whose name matches, for who works on them; --cubin FILE takes a cubin of its own there
(nvcc -cubin -arch=sm_90 -lineinfo). nvdisasm is NVIDIA's (PyPI: nvidia-cuda-nvdisasm).
"""

import argparse
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sass_walk import Graph, Walk, parse, width  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "sass.json"
ARCH = "sm_90"

# ---- the machine ----

# Opcodes by what executes them (Nsight Compute's pipelines).
UNITS = {
    "fma": "FADD FMUL FFMA",
    "imad": "IMAD HFMA2 HADD2 HMUL2",  # half of the fp32 lanes
    "alu": "FSETP FSEL FMNMX FSET FCHK ISETP IADD3 LOP3 LEA SHF SEL VIADD VIMNMX VIADDMNMX IABS PRMT MOV PLOP3 P2R R2P F2FP I2FP "
           "VOTE SGXT BMSK LEPC",
    "double": "DADD DMUL DFMA DSETP",
    "special": "MUFU I2F F2I F2F FRND POPC FLO BREV",
    "tensor": "HMMA",
    "shared": "LDS STS LDSM ATOMS SHFL",
    "global": "LDG STG RED REDG ATOMG LD ST ATOM",
    "local": "LDL STL",
    "uniform": "UIADD3 UISETP ULEA ULOP3 UMOV USEL USHF UIMAD UPLOP3 R2UR UPRMT ULDC UFLO UPOPC UP2UR VOTEU",
    "constant": "LDC",
    "control": "BRA BRX EXIT BSSY BSYNC CALL RET NOP WARPSYNC S2R S2UR CS2R BREAK BMOV YIELD BAR B2R MEMBAR ERRBAR DEPBAR "
               "ACQBULK PREEXIT CCTL CGAERRBAR NANOSLEEP BPT",
}
UNIT = {name: unit for unit, names in UNITS.items() for name in names.split()}

# Cycles that a scheduler's unit is busy with one warp's instruction: 32 lanes by a quarter of the results per cycle and
# multiprocessor of the CUDA programming guide's table of arithmetic throughput, compute capability 9.0 (fp32 128, integer
# multiply and all else 64, special functions 16). Tensor: 495 (tf32) and 989 (bf16) TFLOP/s over 132 multiprocessors at 1.83
# GHz are 256 and 512 multiplies per cycle and scheduler, so that m16n8k8 and m16n8k16 take 4; mma.sync is said to reach 63 % of
# it (Luo et al. 2024, "Benchmarking and dissecting the Nvidia Hopper GPU architecture").
BUSY = {"fma": 1, "imad": 2, "alu": 2, "double": 2, "special": 8, "tensor": 4}
# Shared memory gives a multiprocessor 128 bytes a cycle, one wavefront, so that a scheduler has every fourth.
SCHEDULERS = 4

# Cycles from issue to result where the encoding names no fixed number. Shared memory: Luo et al. 2024 on an H100, and 2 more for
# each further wavefront (Sun et al. 2022, "Dissecting tensor cores via microbenchmarks", of ldmatrix); global memory: an L2
# hit, of the former. Special functions, shuffles and barriers: Jia et al. 2019, "Dissecting the NVidia Turing T4 GPU", rounded.
LATENCY = {"special": 20, "shared": 29, "global": 263, "local": 41, "constant": 30, "control": 20}
WAVEFRONT_LATENCY = 2
READ_LATENCY = 10  # until a load's or store's operands are read


def nvdisasm():
    """Path of the disassembler; None: there is none."""
    if found := shutil.which("nvdisasm"):
        return found
    try:
        files = importlib.metadata.files("nvidia-cuda-nvdisasm") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name == "nvdisasm"), None)


def unit_of(instruction):
    return UNIT.get(instruction.base, "other")


def wavefronts(instruction):
    """Of shared memory, without conflicts (tests/kernels/fragments_test.cpp): 32 words each."""
    return width(instruction) if unit_of(instruction) == "shared" else 0


def count(code, steps, idle=()):
    """{what: how many} of issued instructions; places in idle are issued and take no unit."""
    counts = Counter(issue=len(steps))
    for place, i in enumerate(steps):
        unit = unit_of(code[i])
        if place in idle:
            continue
        counts[unit] += 1
        if unit == "shared":
            counts["wavefronts"] += wavefronts(code[i])
        elif unit in ("global", "local"):
            counts[f"{unit}_{32 * width(code[i])}"] += 1
        elif unit == "other":
            counts[f"other {code[i].base}"] += 1
        if code[i].base == "BAR":
            counts["barriers"] += 1
    return counts


def floor(counts):
    """{unit: cycles that a scheduler's one needs for them at least}, with every scheduler at the same."""
    cycles = {"issue": counts["issue"], "fma": counts["fma"] + counts["imad"], "lsu": SCHEDULERS * counts["wavefronts"]}
    for unit, busy in BUSY.items():
        cycles[unit] = max(cycles.get(unit, 0), busy * counts[unit])
    return {unit: n for unit, n in cycles.items() if n}


def issue_times(code, steps, idle):
    """The cycle in which each instruction issues where the warp is alone, and at the end the first cycle after all."""
    free = Counter()  # unit: first cycle in which it takes another instruction
    taken = [0] * 6  # until when scoreboards are
    now, times = 0, []
    for place, i in enumerate(steps):
        instruction = code[i]
        unit = unit_of(instruction)
        now = max([now] + [taken[s] for s in instruction.waits])
        if place not in idle:
            now = max(now, free[unit])
            extra = max(wavefronts(instruction) - 1, 0)
            free[unit] = now + max(BUSY.get(unit, 1), wavefronts(instruction))
            done = now + LATENCY.get(unit, 0) + WAVEFRONT_LATENCY * extra
            for scoreboard, until in zip(instruction.takes, (done, now + READ_LATENCY)):
                if scoreboard < 6:
                    taken[scoreboard] = max(taken[scoreboard], until)
            if instruction.base == "BAR":
                now += LATENCY["control"]
        times.append(now)
        now += max(instruction.stall, 1)
    return [*times, now]


# ---- kernels ----

# Per multiprocessor: threads, blocks, bytes of shared memory; and the most bytes a block may have (CUDA programming guide,
# technical specifications per compute capability). There are 65536 registers, given out to warps by 256, and each block takes
# 1 KB of shared memory itself.
THREADS, BLOCKS, SHARED, MOST_SHARED = 2048, 32, 228 << 10, 227 << 10


def occupancy(registers, threads, shared):
    """Blocks per multiprocessor and what limits them."""
    if shared > MOST_SHARED:
        return 0, "shared memory per block"
    warps = threads // 32
    limits = {"threads": THREADS // threads, "blocks": BLOCKS,
              "registers": 65536 // (-(-registers * 32 // 256) * 256 * warps), "shared memory": SHARED // (shared + 1024)}
    return min((blocks, what) for what, blocks in limits.items())


# What a walk takes a kernel's arguments to be: CartPole in 4096 environments by 128 steps, four minibatches, networks of two
# layers of 64 tanh units. What is not named is unknown, and so are the loops over tiles and steps: they are left after two passes.
SAMPLING = {"sampling.batch_size": 4096 * 128, "sampling.minibatch_size": 4096 * 32, "sampling.shuffled": 1}
NETWORKS = {f"{network}.{key}": value for network, begin, end in (("actor", 0, 4624), ("critic", 4624, 9184))
            for key, value in (("depth", 2), ("activation", 0), ("begin", begin), ("end", end))}
ARGUMENTS = {
    "UpdateArgs": {**SAMPLING, **NETWORKS, "losses": 3, "partials": 132},
    "RolloutArgs": {**NETWORKS, "environments.count": 4096, "truncations": 0, "truncate_at_end": 0},
    "SimulateArgs": {"environments.count": 4096},
    "GaeArgs": {"grid": 128, "count": 4096, "num_steps": 128},
    "AdvantageMomentsArgs": {**SAMPLING, "num_minibatches": 4, "num_epochs": 4},
    "ReduceGradientsArgs": {"grid": 287, "partials": 132, "begin": 0, "end": 9184, "actor_end": 4624, "losses": 3},
    "ApplyGradientsArgs": {"begin": 0, "end": 9184, "actor_end": 4624},
}
WALKS = {  # kernel: {what a row is called: block}
    r"run_kernel<Update<Interface<4, Discrete<2> >, 64>": {"update, actor": 0, "update, critic": 132},
    r"run_kernel<Rollout<CartPole, 64>": {"rollout": 0},
    r"run_kernel<Simulate<CartPole>": {"simulate": 0},
    r"run_kernel<Gae,": {"gae": 0},
    r"run_kernel<AdvantageMoments,": {"advantage moments": 0},
    r"run_kernel<ReduceGradients,": {"reduce gradients": 0},
    r"run_kernel<ApplyGradients,": {"apply gradients": 0},
}
# Passes of loops that only data end, by the file that they are of: batches that are powers of two never walk a cycle on.
PASSES = {"shuffle.hpp": 0}
GRID, FIRST_ARGUMENT = 0xc, 0x210  # offsets in the bank of constants
PRECISIONS = {"0": "fp32", "1": "tf32", "2": "bf16"}


def demangle(names):
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return {name: re.sub(r"perilune::(base::)?|^void |(?<=>)\([^()]*\)$", "", plain) for name, plain in zip(names, text.splitlines())}


def disassembled(cubin):
    done = subprocess.run([nvdisasm(), "-c", "-hex", "-g", cubin], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"nvdisasm does not read {cubin}: {done.stderr.strip()}")
    kernels = parse(done.stdout)
    names = demangle(sorted(kernels))
    return {names[mangled]: kernel for mangled, kernel in kernels.items()}


def argument_words():
    """{struct: {offset in the bank of constants: word}} of ARGUMENTS, with the compiler's word on where fields are."""
    source = '#include "kernels/api.hpp"\n#include <cstddef>\n#include <cstdio>\nusing namespace perilune;\nint main() {\n'
    for struct, fields in ARGUMENTS.items():
        source += f"{{ {struct} a{{}};\n"
        source += "".join(f'std::printf("{struct} {name} %zu %zu\\n", offsetof({struct}, {name}), sizeof(a.{name}));\n'
                          for name in fields if name != "grid")
        source += "}\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "offsets.cpp"
        path.write_text(source + "}\n")
        subprocess.run(["c++", "-std=c++20", f"-I{ROOT}", path, "-o", path.with_suffix("")], check=True)
        answer = subprocess.run([path.with_suffix("")], check=True, capture_output=True, text=True).stdout
    words = {struct: {GRID: fields["grid"]} if "grid" in fields else {} for struct, fields in ARGUMENTS.items()}
    for line in answer.splitlines():
        struct, name, offset, size = line.split()
        for k in range(0, int(size), 4):
            words[struct][FIRST_ARGUMENT + int(offset) + k] = ARGUMENTS[struct][name] if k == 0 else 0
    return words


class Way:
    """A kernel's way in one block: its warps' walks, and the loop that most of it is spent in."""

    def __init__(self, name, kernel, block, words):
        m = re.search(r"(\d+), \(Precision\)(\d), (\w+)>", name)
        if not m:
            raise ValueError(f"{name}: not a kernel of run_kernel")
        self.code, self.threads = kernel.code, int(m[1])
        self.graph = Graph(kernel, lambda body: self._passes_of(body) == 0)
        outermost = [h for h in self.graph.loops if len(self.graph.around(h)) == 1]
        longest = max((len(self.graph.loops[h]) for h in outermost), default=0)
        self.main = None

        def passes(header):
            if header in outermost and 2 * len(self.graph.loops[header]) > longest:
                self.main = header
                return 2
            return self._passes_of(self.graph.loops[header])

        constants = {0x0: self.threads, **words.get(m[3], {})}
        self.walks = [Walk(self.graph, constants, {"SR_TID.X": tuple(range(first, first + 32)), "SR_CTAID.X": block,
                                                    "SR_CgaCtaId": 0, "vote": False}, passes) for first in range(0, self.threads, 32)]
        self.times = [issue_times(self.code, walk.steps, walk.idle) for walk in self.walks]
        self.unknown = set().union(*(walk.unknown for walk in self.walks))

    def _passes_of(self, body):
        files = Counter(self.code[i].line.split(":")[0] for i in body)
        return PASSES.get(files.most_common(1)[0][0])

    def span(self, walk):
        """Places of a walk's second pass through the main loop; of all of it where there is none."""
        if self.main is None:
            return 0, len(walk.steps)
        body = self.graph.loops[self.main]
        first = [place for place, i in enumerate(walk.steps) if i == self.main][1]
        return first, next((p for p in range(first, len(walk.steps)) if walk.steps[p] not in body), len(walk.steps))

    def counts(self, pick):
        """Mean over the warps of what is counted in the places pick(walk)."""
        total = Counter()
        for walk in self.walks:
            places = pick(walk)
            total += count(self.code, [walk.steps[p] for p in places], {k for k, p in enumerate(places) if p in walk.idle})
        return Counter({what: n / len(self.walks) for what, n in total.items()})

    def chain(self):
        """Cycles of the slowest warp alone, in its span."""
        return max(times[end] - times[begin]
                   for walk, times in zip(self.walks, self.times) for begin, end in [self.span(walk)])


def rounded(counts):
    return {what: round(n, 1) if n % 1 else int(n) for what, n in sorted(counts.items())}


def row_of(title, name, way, blocks):
    m = re.search(r"\(Precision\)(\d)", name)
    per_pass = way.counts(lambda walk: range(*way.span(walk)))
    floors = floor(per_pass)
    bound = max(floors, key=floors.get)
    warps = blocks * way.threads / 32 / SCHEDULERS
    chain = way.chain()
    return {"walk": title, "precision": PRECISIONS[m[1]], "kernel": name,
            "of": "a pass of its main loop" if way.main is not None else "the whole kernel",
            "counts": rounded(per_pass), "floor_cycles": rounded(floors), "bound": bound,
            "before": way.counts(lambda walk: range(way.span(walk)[0]))["issue"] if way.main is not None else 0,
            "chain_cycles": chain, "warps_per_scheduler": warps, "expected_cycles": round(max(floors[bound], chain / warps)),
            "loops_of_unknown_length": len(way.unknown)}


# ---- printing one kernel ----

COLUMNS = ["issue", "fma", "imad", "alu", "special", "tensor", "shared", "wavefronts", "global", "constant", "uniform", "control"]


def show(title, name, way):
    print(f"{title}: {name}")
    per_pass = way.counts(lambda walk: range(*way.span(walk)))
    what = "a pass of the main loop" if way.main is not None else "the whole kernel"
    others = {k: v for k, v in rounded(per_pass).items() if k not in COLUMNS}
    print(f"  {what}, a warp: {way.chain()} cycles alone; at least {rounded(floor(per_pass))}; {others}")
    print(f"  {'loop':34}{'passes':>7}{'cycles':>8}" + "".join(f"{column:>8}"[:11] for column in ["issue", *(c[:7] for c in COLUMNS[1:])]))
    spans = [range(*way.span(walk)) for walk in way.walks]
    headers = {way.graph.around(walk.steps[p])[:1][0] if way.graph.around(walk.steps[p]) else None
               for walk, places in zip(way.walks, spans) for p in places}
    for header in sorted(headers, key=lambda h: -1 if h is None else h):
        inside = [[p for p in places if (way.graph.around(walk.steps[p]) or [None])[0] == header] for walk, places in zip(way.walks, spans)]
        places = {id(walk): ps for walk, ps in zip(way.walks, inside)}
        counts = way.counts(lambda walk: places[id(walk)])
        cycles = max(sum(times[p + 1] - times[p] for p in ps) for times, ps in zip(way.times, inside))
        passes = sum(walk.steps[p] == header for walk, ps in zip(way.walks, inside) for p in ps) / len(way.walks)
        label = "outside loops" if header is None else f"{way.code[header].address:#x} {way.code[header].line}"
        label += " (unknown)" if header in way.unknown else ""
        print(f"  {label:34}{passes:7g}{cycles:8}" + "".join(f"{counts[column]:8g}" for column in COLUMNS))
    lines = Counter(way.code[way.walks[0].steps[p]].line for p in spans[0])
    print("  lines that issue most (first warp): " + ", ".join(f"{line} {n}" for line, n in lines.most_common(12)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default=ROOT / "build/release", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--kernel")
    parser.add_argument("--cubin", action="append", type=Path)
    options = parser.parse_args()
    if nvdisasm() is None:
        sys.exit("no nvdisasm: pip install nvidia-cuda-nvdisasm")
    words = argument_words()
    cubins = options.cubin or sorted(options.build.glob(f"kernels/**/*.report/*.{ARCH}.cubin"))
    for cubin in cubins:
        for name, kernel in disassembled(cubin).items():
            if options.kernel and re.search(options.kernel, name):
                for pattern, blocks in WALKS.items():
                    if re.match(pattern, name):
                        for title, block in blocks.items():
                            show(title, name, Way(name, kernel, block, words))


if __name__ == "__main__":
    main()
