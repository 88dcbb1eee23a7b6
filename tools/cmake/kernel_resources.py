"""Tabulates what each GPU kernel needs, from ptxas -v logs and PTX: kernel_resources.py FOLDER OUTPUT.

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
    """{mangled kernel: figures} from one ptxas -v log."""
    kernels = {}
    name = None
    for line in text.splitlines():
        if m := re.search(r"Compiling entry function '(\S+)'", line):
            name = m.group(1)
            kernels[name] = {"registers": 0, "shared_bytes": 0, "stack_bytes": 0,
                             "spill_store_bytes": 0, "spill_load_bytes": 0}
        elif name and (m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)):
            # Functions that were not inlined print properties of their own: the kernel's row takes the sum.
            for key, value in zip(("stack_bytes", "spill_store_bytes", "spill_load_bytes"), m.groups()):
                kernels[name][key] += int(value)
        elif name and (m := re.search(r"Used (\d+) registers", line)):
            kernels[name]["registers"] = int(m.group(1))
            if m := re.search(r"(\d+) bytes smem", line):
                kernels[name]["shared_bytes"] = int(m.group(1))
    return kernels


def parse_ptx(text):
    """({mangled kernel: counts}, counts in device functions that were not inlined)."""
    kernels = {}
    outside = {"f64": 0, "local": 0, "mma": 0}
    current = outside
    for line in text.splitlines():
        if m := re.search(r"\.entry (\w+)", line):
            current = kernels.setdefault(m.group(1), {"f64": 0, "local": 0, "mma": 0})
        elif re.match(r"\s*(\.visible |\.weak )*\.func ", line):
            current = outside
        code = line.split("//")[0].strip()
        if code.startswith((".loc ", ".file ", ".reg ", ".param ")) or '"' in code:
            continue
        current["f64"] += ".f64" in code
        current["mma"] += code.startswith("mma.sync")
        current["local"] += bool(re.search(r"\.local\b", code))
    return kernels, outside


def main(folder, output):
    rows = []
    outside = {}
    for log in sorted(Path(folder).glob("*.log")):
        source, arch = log.stem.rsplit("_", 1)
        figures = parse_log(log.read_text())
        counts, outside[log.stem] = parse_ptx(log.with_suffix(".ptx").read_text())
        names = demangle(list(figures)) if figures else {}
        for mangled, figure in figures.items():
            rows.append({"source": f"kernels/{source}.cu", "arch": f"sm_{arch}", "kernel": short(names[mangled]),
                         **figure, **{f"ptx_{k}": v for k, v in counts.get(mangled, {}).items()}})
    rows.sort(key=lambda row: (row["source"], row["arch"], row["kernel"]))
    Path(output + ".json").write_text(json.dumps({"kernels": rows, "not_inlined": outside}, indent=1) + "\n")

    keys = ["registers", "shared_bytes", "stack_bytes", "spill_store_bytes", "spill_load_bytes", "ptx_f64", "ptx_local", "ptx_mma"]
    heads = ["regs", "shared", "stack", "spill st", "spill ld", "f64", "local", "mma"]
    lines = [f"{'arch':6}" + "".join(f"{head:>9}" for head in heads) + "  kernel"]
    lines += [f"{row['arch']:6}" + "".join(f"{row[key]:9}" for key in keys) + "  " + row["kernel"] for row in rows]
    Path(output + ".txt").write_text("\n".join(lines) + "\n")


main(*sys.argv[1:])
