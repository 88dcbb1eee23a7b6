"""Tabulates what each GPU kernel needs, and each function that was not inlined into kernels, from ptxas -v logs and PTX: kernel_resources.py FOLDER OUTPUT.

FOLDER holds <source>_<arch>.ptx and <source>_<arch>.log; OUTPUT.json and OUTPUT.txt are written. Spills and the stack are
ptxas's figures; f64 and local count PTX instructions, which show double arithmetic and indexed local arrays at their
source, before ptxas may have hidden them; mma counts the multiplies of tensor cores.
"""

import json
import re
import subprocess
import sys
from pathlib import Path


def demangle(names):
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return dict(zip(names, text.stdout.splitlines()))


def short(name):
    """The kernel's name without return type, argument list and namespaces: what a table has room for."""
    name = re.sub(r"^void ", "", name)
    depth = 0
    for i, character in enumerate(name):  # cut at the argument list, which is outside all template brackets
        if character == "<":
            depth += 1
        elif character == ">":
            depth -= 1
        elif character == "(" and depth == 0:
            name = name[:i]
            break
    return re.sub(r"perilune::(base::)?", "", name)


def parse_log(text):
    """({mangled kernel: figures}, {mangled function: figures}) from one ptxas -v log."""
    kernels, functions = {}, {}
    kernel = row = None
    for line in text.splitlines():
        if m := re.search(r"Compiling entry function '(\S+)'", line):
            kernel = m.group(1)
            kernels[kernel] = {"registers": 0, "shared_bytes": 0}
        elif m := re.search(r"Function properties for (\S+)", line):
            row = kernels[kernel] if m.group(1) == kernel else functions.setdefault(m.group(1), {})
        elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            row.update(zip(("stack_bytes", "spill_store_bytes", "spill_load_bytes"), map(int, m.groups())))
        elif m := re.search(r"Used (\d+) registers", line):
            kernels[kernel]["registers"] = int(m.group(1))
            if m := re.search(r"(\d+) bytes smem", line):
                kernels[kernel]["shared_bytes"] = int(m.group(1))
    return kernels, functions


def parse_ptx(text):
    """{mangled kernel or function: counts}."""
    counts = {}
    current = {"f64": 0, "local": 0, "mma": 0}  # before the first of them
    starts = False
    for line in text.splitlines():
        starts = starts or bool(re.match(r"\s*(\.visible |\.weak )*\.(func|entry)\b", line))
        # A function's name may follow its result, on the next line.
        if starts and (m := re.search(r"\b(_Z\w+) *\(", line)):
            current = counts.setdefault(m.group(1), {"f64": 0, "local": 0, "mma": 0})
            starts = False
        code = line.split("//")[0].strip()
        if code.startswith((".loc ", ".file ", ".reg ", ".param ")) or '"' in code:
            continue
        current["f64"] += ".f64" in code
        current["mma"] += code.startswith("mma.sync")
        current["local"] += bool(re.search(r"\.local\b", code))
    return counts


def main(folder, output):
    rows, functions = [], []
    for log in sorted(Path(folder).glob("*.log")):
        source, arch = log.stem.rsplit("_", 1)
        kernels, outside = parse_log(log.read_text())
        counts = parse_ptx(log.with_suffix(".ptx").read_text())
        names = demangle([*kernels, *outside]) if kernels else {}
        for table, what, figures in ((rows, "kernel", kernels), (functions, "function", outside)):
            for mangled, figure in figures.items():
                table.append({"source": f"kernels/{source}.cu", "arch": f"sm_{arch}", what: short(names[mangled]),
                              **figure, **{f"ptx_{k}": v for k, v in counts.get(mangled, {}).items()}})
    rows.sort(key=lambda row: (row["source"], row["arch"], row["kernel"]))
    Path(output + ".json").write_text(json.dumps({"kernels": rows, "functions": functions}, indent=1) + "\n")

    keys = ["registers", "shared_bytes", "stack_bytes", "spill_store_bytes", "spill_load_bytes", "ptx_f64", "ptx_local", "ptx_mma"]
    heads = ["regs", "shared", "stack", "spill st", "spill ld", "f64", "local", "mma"]
    lines = [f"{'arch':6}" + "".join(f"{head:>9}" for head in heads) + "  kernel"]
    lines += [f"{row['arch']:6}" + "".join(f"{row[key]:9}" for key in keys) + "  " + row["kernel"] for row in rows]
    Path(output + ".txt").write_text("\n".join(lines) + "\n")


main(*sys.argv[1:])
