#!/usr/bin/env python3
"""What the SASS of every CUDA kernel asks of an H100 or H200, without a GPU.

  bench/sass.py [BUILD] [--check | --kernel REGEX]

BUILD is a build folder with CUDA and tests (build/release), in which nvcc_with_report kept each unit's cubin. Without
more bench/results/sass.json is written: of every kernel registers, shared memory, spills, blocks per multiprocessor and
the instructions of its text by unit; of those in WALKS, what one warp issues on its way (sass_walk.py; the mean over a
block's warps) for 32 samples or a step of 32 environments, floor_cycles that a scheduler's units need for that at
least, alone_cycles of a warp that has the multiprocessor for itself, and together_cycles for each of the warps that
fit. --check compares with what is committed. --kernel prints the loops of kernels whose name matches, for who works on
them; --cubin FILE takes those of one cubin (nvcc -cubin -arch=sm_90 -O3 -fmad=false -lineinfo). nvdisasm is NVIDIA's
(PyPI: nvidia-cuda-nvdisasm).
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

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tools" / "cmake")]
import kernel_resources  # noqa: E402
from sass_walk import Graph, Walk, parse, width  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "sass.json"
ARCH = "sm_90"

# ---- the machine ----

# Opcodes by what executes them (Nsight Compute's pipelines).
UNITS = {
    "fma": "FADD FMUL FFMA",
    "imad": "IMAD HFMA2 HADD2 HMUL2",  # half of the fp32 lanes
    "alu": "FSETP FSEL FMNMX FSET FCHK ISETP IADD3 LOP3 LEA SHF SEL VIADD VIMNMX VIMNMX3 VIADDMNMX IABS PRMT MOV PLOP3 "
    "P2R R2P F2FP I2FP VOTE SGXT BMSK LEPC",
    "double": "DADD DMUL DFMA DSETP",
    "special": "MUFU I2F F2I F2F FRND POPC FLO BREV",
    "tensor": "HMMA",
    "shared": "LDS STS LDSM ATOMS SHFL",
    "global": "LDG STG RED REDG ATOMG LD ST ATOM LDGSTS",
    "local": "LDL STL",
    "uniform": "UIADD3 UISETP ULEA ULOP3 UMOV USEL USHF UIMAD UPLOP3 R2UR UPRMT ULDC UFLO UPOPC UP2UR VOTEU",
    "constant": "LDC",
    "control": "BRA BRX EXIT BSSY BSYNC CALL RET NOP WARPSYNC S2R S2UR CS2R BREAK BMOV YIELD BAR B2R MEMBAR ERRBAR "
    "DEPBAR LDGDEPBAR ACQBULK PREEXIT CCTL ENDCOLLECTIVE CGAERRBAR NANOSLEEP BPT",
}
UNIT = {name: unit for unit, names in UNITS.items() for name in names.split()}

# Cycles that a scheduler's unit is busy with one warp's instruction: 32 lanes by a quarter of the results per cycle and
# multiprocessor of the CUDA programming guide's table of arithmetic throughput, compute capability 9.0 (fp32 128,
# integer multiply and all else 64, special functions 16). Tensor: 495 (tf32) and 989 (bf16) TFLOP/s over 132
# multiprocessors at 1.83 GHz are 256 and 512 multiplies per cycle and scheduler, so that m16n8k8 and m16n8k16 take 4;
# mma.sync is said to reach 63 % of it (Luo et al. 2024, "Benchmarking and dissecting the Nvidia Hopper GPU
# architecture"), and nvcc stalls 6 cycles between two.
BUSY = {"fma": 1, "imad": 2, "alu": 2, "double": 2, "special": 8, "tensor": 4}
# Shared memory gives a multiprocessor 128 bytes a cycle, one wavefront, so that a scheduler has every fourth.
SCHEDULERS = 4

# Cycles from issue to result where the compiler has not scheduled it: results of arithmetic are awaited by stalls alone
# (4 or so; 24 of a multiply on tensor cores). Shared memory: Luo et al. 2024 on an H100, and 2 more for each further
# wavefront (Sun et al. 2022, "Dissecting tensor cores via microbenchmarks", of ldmatrix); global memory: an L2 hit, of
# the former. Special functions, shuffles, constants and barriers: Jia et al. 2019, "Dissecting the NVidia Turing T4 GPU
# via microbenchmarking", rounded.
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
    if instruction.base == "HMMA" and not instruction.opcode.startswith(("HMMA.1688.F32.TF32", "HMMA.16816.F32")):
        return "other"  # BUSY is of those two
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


def rounded(n):
    return int(n) if n == int(n) else round(n, 1)


def floor(counts):
    """{unit: cycles that a scheduler's one needs for them at least}, with every scheduler at the same."""
    cycles = {"issue": counts["issue"], "fma": counts["fma"] + counts["imad"], "lsu": SCHEDULERS * counts["wavefronts"]}
    for unit, busy in BUSY.items():
        cycles[unit] = max(cycles.get(unit, 0), busy * counts[unit])
    return {unit: rounded(n) for unit, n in cycles.items() if n}


def issue(code, warps, share=1):
    """When warps on one scheduler issue their instructions: of each the cycles, and last the first cycle after them.
    The warp that is ready first goes first. warps: (steps, idle) of each; share: schedulers that are as busy with
    shared memory. Fetching code is taken to cost nothing, and barriers to find the other warps there."""
    free = Counter()  # unit: first cycle in which it takes another instruction
    ready, taken = [0] * len(warps), [[0] * 6 for _ in warps]  # by warp; until when its scoreboards are
    times, cycle = [[] for _ in warps], 0
    unfinished = set(range(len(warps)))

    def earliest(w):
        steps, idle = warps[w]
        instruction = code[steps[len(times[w])]]
        busy = 0 if len(times[w]) in idle else free[unit_of(instruction)]
        return max(ready[w], busy, *(taken[w][s] for s in instruction.waits)), w

    while unfinished:
        now, w = min(map(earliest, unfinished))
        now = max(now, cycle)
        cycle = now + 1
        steps, idle = warps[w]
        instruction = code[steps[len(times[w])]]
        unit, fronts = unit_of(instruction), wavefronts(instruction)
        ready[w] = now + max(instruction.stall, 1)
        if len(times[w]) not in idle:
            free[unit] = now + max(BUSY.get(unit, 1), share * fronts)
            done = now + LATENCY.get(unit, 0) + WAVEFRONT_LATENCY * max(fronts - 1, 0)
            for scoreboard, until in zip(instruction.takes, (done, now + READ_LATENCY), strict=True):
                if scoreboard < 6:
                    taken[w][scoreboard] = max(taken[w][scoreboard], until)
            if instruction.base == "BAR":
                ready[w] = max(ready[w], now + LATENCY["control"])
        times[w].append(now)
        if len(times[w]) == len(steps):
            times[w].append(ready[w])
            unfinished.remove(w)
    return times


# ---- kernels ----

# Per multiprocessor: threads, blocks, bytes of shared memory; and the most bytes a block may have (CUDA programming
# guide, technical specifications per compute capability). There are 65536 registers, given out to warps by 256, and
# each block takes 1 KB of shared memory itself.
THREADS, BLOCKS, SHARED, MOST_SHARED = 2048, 32, 228 << 10, 227 << 10


def occupancy(registers, threads, shared):
    """Blocks per multiprocessor and what limits them."""
    if shared > MOST_SHARED:
        return 0, "shared memory per block"
    warps = threads // 32
    limits = {
        "threads": THREADS // threads,
        "blocks": BLOCKS,
        "registers": 65536 // (-(-registers * 32 // 256) * 256 * warps),
        "shared memory": SHARED // (shared + 1024),
    }
    return min((blocks, what) for what, blocks in limits.items())


# What a walk takes a kernel's arguments to be: CartPole in 4096 environments by 128 steps, four minibatches, networks
# of two layers of 64 tanh units (whose parameters are so many, with each tensor rounded up to 16). What is not named is
# unknown, and so is how long the loops over tiles and steps are: those are left after two passes.
SAMPLING = {"sampling.batch_size": 4096 * 128, "sampling.minibatch_size": 4096 * 32, "sampling.shuffled": 1}
NETWORKS = {
    f"{network}.{key}": value
    for network, begin, end in (("actor", 0, 4624), ("critic", 4624, 9184))
    for key, value in (("depth", 2), ("activation", 0), ("begin", begin), ("end", end), ("inputs.size", 0))
}
ARGUMENTS = {
    "UpdateArgs": {**SAMPLING, **NETWORKS, "losses": 3, "partials": 132},
    "RolloutArgs": {**NETWORKS, "environments.count": 4096, "truncations": 0, "truncate_at_end": 0, "bootstraps": 0},
    "SimulateArgs": {"environments.count": 4096},
    "GaeArgs": {"grid": 128, "count": 4096, "num_steps": 128},
    "AdvantageMomentsArgs": {**SAMPLING, "num_minibatches": 4, "num_epochs": 4},
    "ReduceGradientsArgs": {"grid": 287, "partials": 132, "begin": 0, "end": 9184, "actor_end": 4624, "losses": 3},
    "ApplyGradientsArgs": {"begin": 0, "end": 9184, "actor_end": 4624},
}
WALKS = {  # kernel: {what a row is called: block}
    r"run_kernel<Update<Interface<4, Discrete<2> >, 64, (3>, \d+, \(Precision\)0|2>, \d+, \(Precision\)[12])": {
        "update, actor": 0,
        "update, critic": 132,
    },
    r"run_kernel<Rollout<CartPole, 64>, \d+, \(Precision\)\d, 1,": {"rollout": 0},
    r"run_kernel<Rollout<CartPole, 64>, \d+, \(Precision\)\d, 2,": {"rollout, two teams": 0},
    r"run_kernel<Simulate<CartPole>": {"simulate": 0},
    r"run_kernel<Gae,": {"gae": 0},
    r"run_kernel<AdvantageMoments,": {"advantage moments": 0},
    r"run_kernel<ReduceGradients,": {"reduce gradients": 0},
    r"run_kernel<ApplyGradients,": {"apply gradients": 0},
}
# Passes of loops that only data end, by the file that they are of: no batch of a power of two walks a cycle on.
PASSES = {"shuffle.hpp": 0}
THREADS_WORD, GRID, FIRST_ARGUMENT = 0x0, 0xC, 0x210  # offsets in the bank of constants
LAUNCH = re.compile(r"(?P<lanes>\d+), \(Precision\)(?P<precision>\d), (?P<teams>\d+), (?P<arguments>\w+)>$")
PRECISIONS = {"0": "fp32", "1": "tf32", "2": "bf16"}
LAYERS = 2
# By what a kernel is a template over; an update is shared by environments that look alike, and takes any of them.
ENVIRONMENTS = {
    "BipedalWalker": "BipedalWalker-v3",
    "CartPole": "CartPole-v1",
    "LunarLanderWith<Discrete<4>>": "LunarLander-v3",
    "LunarLanderWith<Box<2>>": "LunarLanderContinuous-v3",
    "LanderWith<Discrete<4>>": "Lander-v0",
    "LanderWith<Box<2>>": "LanderContinuous-v0",
    "Interface<24, Box<4>>": "BipedalWalker-v3",
    "Interface<4, Discrete<2>>": "CartPole-v1",
    "Interface<8, Discrete<4>>": "LunarLander-v3",
    "Interface<8, Box<2>>": "LunarLanderContinuous-v3",
}


def disassembled(cubin):
    """{name as kernel_resources.json has it: Kernel}; what only counting needs where the cubin has none of WALKS."""

    def run(*options):
        done = subprocess.run([nvdisasm(), "-c", *options, cubin], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{cubin}: {done.stderr.strip()}")
        kernels = parse(done.stdout)
        names = kernel_resources.demangle(sorted(kernels))
        return {kernel_resources.short(names[mangled]): kernel for mangled, kernel in kernels.items()}

    kernels = run()
    return run("-hex", "-g") if any(re.match(pattern, name) for name in kernels for pattern in WALKS) else kernels


def argument_words():
    """{struct: {offset in the bank of constants: word}} of ARGUMENTS, with the compiler's word on where fields are."""
    fields = [(struct, name) for struct, values in ARGUMENTS.items() for name in values if name != "grid"]
    prints = "\n".join(
        f'  {{ {struct} a; std::printf("%zu %zu\\n", offsetof({struct}, {name}), sizeof a.{name}); }}'
        for struct, name in fields
    )
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "offsets.cpp", Path(folder) / "offsets"
        source.write_text(
            f'#include "kernels/api.hpp"\n#include <cstddef>\n#include <cstdio>\nusing namespace perilune;\n'
            f"int main() {{\n{prints}\n}}\n"
        )
        subprocess.run(["c++", "-std=c++20", f"-I{ROOT}", source, "-o", program], check=True)
        answers = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    words = {struct: {GRID: values["grid"]} if "grid" in values else {} for struct, values in ARGUMENTS.items()}
    for (struct, name), answer in zip(fields, answers, strict=True):
        offset, size = map(int, answer.split())
        for k in range(0, size, 4):
            words[struct][FIRST_ARGUMENT + offset + k] = ARGUMENTS[struct][name] if k == 0 else 0
    return words


def threads_of(name):
    """Threads of a block."""
    m = LAUNCH.search(name)
    return int(m["lanes"]) * int(m["teams"]) if m else 1


class Way:
    """A kernel's way through one block, by the walks of its warps: a pass of the loop that takes most of it, the second
    one, where the arguments leave open how long that loop is; else the whole of it."""

    def __init__(self, name, kernel, block, words):
        threads = threads_of(name)
        self.code, self.main = kernel.code, None
        self.graph = Graph(kernel, lambda body: self._passes_of(body) == 0)
        outermost = [header for header in self.graph.loops if len(self.graph.around(header)) == 1]
        longest = max((len(self.graph.loops[header]) for header in outermost), default=0)

        def passes(header):
            if header in outermost and 2 * len(self.graph.loops[header]) > longest:
                self.main = header
                return 2
            return self._passes_of(self.graph.loops[header])

        walks = [
            Walk(
                self.graph,
                {THREADS_WORD: threads, **words.get(LAUNCH.search(name)["arguments"], {})},
                {
                    "SR_TID.X": tuple(range(32 * warp, 32 * warp + 32)),
                    "SR_CTAID.X": block,
                    "SR_CgaCtaId": 0,
                    "vote": False,
                },
                passes,
            )
            for warp in range(threads // 32)
        ]
        self.unknown = set().union(*(walk.unknown for walk in walks))
        spans = [self._span(walk) for walk in walks]
        self.before = max(begin for begin, _ in spans)
        self.warps = [
            (walk.steps[begin:end], {place - begin for place in walk.idle if begin <= place < end})
            for walk, (begin, end) in zip(walks, spans, strict=True)
        ]

    def _passes_of(self, body):
        files = Counter(self.code[i].line.split(":")[0] for i in body)
        return PASSES.get(files.most_common(1)[0][0])

    def _span(self, walk):
        if self.main is None:
            return 0, len(walk.steps)
        body = self.graph.loops[self.main]
        begin = [place for place, i in enumerate(walk.steps) if i == self.main][1]
        return begin, 1 + max(place for place, i in enumerate(walk.steps) if i in body)

    def counts(self, inside=lambda i: True):
        """{what: how many}, mean over the warps, of the instructions that are `inside`."""
        total = Counter()
        for steps, idle in self.warps:
            places = [place for place, i in enumerate(steps) if inside(i)]
            total += count(self.code, [steps[p] for p in places], {k for k, p in enumerate(places) if p in idle})
        return Counter({what: rounded(n / len(self.warps)) for what, n in sorted(total.items())})

    def alone(self):
        """Cycles of the slowest warp, alone in its multiprocessor; and when it issues."""
        times = max((issue(self.code, [warp])[0] for warp in self.warps), key=lambda times: times[-1])
        return times[-1], times

    def together(self, count):
        """Cycles a warp where each scheduler has so many, of all warps in turn."""
        warps = [self.warps[k % len(self.warps)] for k in range(count)]
        return round(max(times[-1] for times in issue(self.code, warps, SCHEDULERS)) / count)


def ways(name, kernel, words):
    """(what a row of WALKS is called, Way) of a kernel."""
    for pattern, blocks in WALKS.items():
        if re.match(pattern, name):
            yield from ((title, Way(name, kernel, block, words)) for title, block in blocks.items())


# ---- the table ----


def resources(build):
    """{kernel: what ptxas said of it, its shared memory, how many blocks a multiprocessor has}, from a build folder."""
    told = subprocess.run([build / "perilune", "info", "--json"], check=True, capture_output=True, text=True).stdout
    information = json.loads(told)
    storage = {
        (row["env"], row["hidden_width"], row["precision"]): row
        for row in information["devices"]["cuda"]["shared_memory"]
        if row["hidden_layers"] == LAYERS
    }
    rows = {}
    for figure in json.loads((build / "kernel_resources.json").read_text())["kernels"]:
        name = figure["kernel"]
        if figure["arch"] != ARCH:
            continue
        dynamic = 0
        threads = threads_of(name)
        if m := re.match(r"run_kernel<(Rollout|Evaluate|Update)<(.+?), (\d+)(?:, \d+)?>, \d+, \(Precision\)(\d)", name):
            dynamic = storage[ENVIRONMENTS[m[2].replace("> >", ">>")], int(m[3]), PRECISIONS[m[4]]][m[1].lower()]
        blocks, limit = occupancy(max(figure["registers"], 1), max(threads, 32), figure["shared_bytes"] + dynamic)
        rows[name] = {
            "kernel": name,
            "threads": threads,
            "registers": figure["registers"],
            "static_shared_bytes": figure["shared_bytes"],
            "dynamic_shared_bytes": dynamic,
            "stack_bytes": figure["stack_bytes"],
            "spill_bytes": figure["spill_store_bytes"] + figure["spill_load_bytes"],
            "blocks_per_multiprocessor": blocks,
            "limited_by": limit,
            "occupancy": round(blocks * threads / THREADS, 3),
        }
    return information["build"]["cuda"], rows


def walk_row(title, precision, way, kernel):
    counts = way.counts()
    cycles = floor(counts)
    row = {
        "walk": title,
        "precision": precision,
        "of": "the kernel" if way.main is None else "a pass",
        "counts": counts,
        "floor_cycles": cycles,
        "bound": max(cycles, key=cycles.get),
        "alone_cycles": way.alone()[0],
    }
    if way.main is not None:
        warps = kernel["blocks_per_multiprocessor"] * kernel["threads"] // (32 * SCHEDULERS)
        row |= {
            "warps_per_scheduler": max(warps, 1),
            "together_cycles": way.together(max(warps, 1)),
            "issued_before": way.before,
        }
    return row | {"loops_of_unknown_length": len(way.unknown)}


def table(build):
    toolkit, rows = resources(build)
    words, walks = argument_words(), []
    for cubin in cubins(build):
        for name, kernel in disassembled(cubin).items():
            row = rows.setdefault(name, {"function": name})
            if "instructions" in row:
                continue  # of another unit as well
            row["instructions"] = dict(sorted(count(kernel.code, range(len(kernel.code))).items()))
            for title, way in ways(name, kernel, words):
                walks.append(walk_row(title, PRECISIONS[LAUNCH.search(name)["precision"]], way, row))
    return {
        "toolkit": toolkit,
        "hidden_layers": LAYERS,
        "walks": sorted(walks, key=lambda row: (row["walk"], row["precision"])),
        "kernels": [rows[name] for name in sorted(rows)],
    }


def cubins(build):
    found = sorted(build.glob(f"kernels/**/*.report/*.{ARCH}.cubin"))
    if not found:
        sys.exit(
            f"{build} has no cubins of {ARCH} - build it with CUDA and tests; objects of an older "
            "nvcc_with_report lack them"
        )
    return found


def text_of(table):
    """JSON with a line for each row."""
    parts = []
    for key, value in table.items():
        rows = ",\n  ".join(json.dumps(row) for row in value) if isinstance(value, list) else None
        parts.append(f' "{key}": ' + (json.dumps(value) if rows is None else f"[\n  {rows}\n ]"))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def flat(value, path=()):
    """{path: number or word} of a table; a row's path is what it is of."""
    if isinstance(value, dict):
        return {p: v for key, inner in value.items() for p, v in flat(inner, (*path, key)).items()}
    if isinstance(value, list):
        names = [
            " ".join(str(row[key]) for key in ("walk", "precision", "kernel", "function") if row.get(key))
            for row in value
        ]
        return {p: v for name, row in zip(names, value, strict=True) for p, v in flat(row, (*path, name)).items()}
    return {path: value}


def differences(old, new):
    """A line for each number that differs."""
    old, new = flat(old), flat(new)
    return [
        f"{': '.join(path)}: {old.get(path, 'nothing')} -> {new.get(path, 'nothing')}"
        for path in {**old, **new}
        if old.get(path) != new.get(path)
    ]


# ---- printing one kernel ----

COLUMNS = [
    "issue",
    "fma",
    "imad",
    "alu",
    "special",
    "tensor",
    "shared",
    "wavefronts",
    "global",
    "constant",
    "uniform",
    "control",
]


def show(title, name, way):
    alone, times = way.alone()
    counts = way.counts()
    what = "the kernel" if way.main is None else "a pass of its main loop"
    rest = {what: n for what, n in counts.items() if what not in COLUMNS}
    print(
        f"{title}: {name}\n  {what}, a warp: {alone} cycles alone; {way.together(2)} each of two on a scheduler, "
        f"{way.together(4)} of four; at least {floor(counts)}\n  also {rest}"
    )
    print(f"  {'loop':40}{'passes':>7}{'alone':>7}" + "".join(f"{column[:7]:>8}" for column in COLUMNS))

    def around(i):
        return (way.graph.around(i) or [None])[0]

    steps = max((steps for steps, _ in way.warps), key=len)
    slowest = next(steps for steps, _ in way.warps if len(steps) + 1 == len(times))
    cycles = Counter()
    for place, i in enumerate(slowest):
        cycles[around(i)] += times[place + 1] - times[place]
    for header in sorted({around(i) for i in steps}, key=lambda h: -1 if h is None else h):
        label = "outside loops" if header is None else f"{way.code[header].address:#x} {way.code[header].line}"
        label += " UNKNOWN LENGTH" if header in way.unknown else ""
        inside = way.counts(lambda i, header=header: around(i) == header)
        print(
            f"  {label:40}{steps.count(header):7}{cycles[header]:7}"
            + "".join(f"{inside.get(c, 0):8g}" for c in COLUMNS)
        )
    lines = Counter(way.code[i].line for i in steps)
    print("  lines that issue most: " + ", ".join(f"{line} {n}" for line, n in lines.most_common(12)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default=ROOT / "build/release", type=Path)
    parser.add_argument(
        "--check", action="store_true", help="compare with what is committed; 77: nothing to compare by"
    )
    parser.add_argument("--kernel", metavar="REGEX", help="print the loops of these kernels")
    parser.add_argument("--cubin", action="append", type=Path, help="with --kernel: of this file instead")
    options = parser.parse_args()
    if nvdisasm() is None:
        print("skipped: there is no nvdisasm - pip install nvidia-cuda-nvdisasm", file=sys.stderr)
        sys.exit(77)
    if options.kernel is not None:
        words = argument_words()
        for cubin in options.cubin or cubins(options.build):
            for name, kernel in disassembled(cubin).items():
                if re.search(options.kernel, name):
                    for title, way in ways(name, kernel, words):
                        show(title, name, way)
                    if not any(re.match(pattern, name) for pattern in WALKS):
                        print(f"{name}\n  its text: {dict(count(kernel.code, range(len(kernel.code))))}")
        return
    new = table(options.build)
    if not options.check:
        RESULTS.write_text(text_of(new))
        return
    old = json.loads(RESULTS.read_text())
    if old["toolkit"] != new["toolkit"]:
        print(
            f"skipped: {RESULTS.name} is of CUDA {old['toolkit']}, and {options.build} of {new['toolkit']}",
            file=sys.stderr,
        )
        sys.exit(77)
    if wrong := differences(old, new):
        more = [f"and {len(wrong) - 60} more"] if len(wrong) > 60 else []
        remedy = f"if this is meant, run bench/sass.py {options.build} and commit bench/results/{RESULTS.name}"
        sys.exit("\n".join([*wrong[:60], *more, remedy]))


if __name__ == "__main__":
    main()
