"""Tabulates what each GPU kernel needs, and each function that was not inlined into kernels, from what nvcc_with_report
kept: kernel_resources.py OBJECTS OUTPUT.

OBJECTS is a file that names object files; beside each is a folder <object>.report with ptxas's log and the PTX of each
architecture; OUTPUT.json and OUTPUT.txt are written. Spills and the stack are ptxas's figures; f64 and local count PTX
instructions, which show double arithmetic and indexed local arrays at their source, before ptxas may have hidden them;
mma counts the multiplies of tensor cores. A kernel that several units have is listed once.
"""

import json
import re
import subprocess
import sys
from pathlib import Path


def demangle(names):
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return dict(zip(names, text.stdout.splitlines(), strict=True))


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
    """{(architecture, mangled kernel): figures}, and the same of functions, from one ptxas -v log."""
    kernels, functions = {}, {}
    kernel = row = arch = None
    for line in text.splitlines():
        if m := re.search(r"Compiling entry function '(\S+)' for '(\w+)'", line):
            kernel, arch = m.groups()
            kernels[arch, kernel] = {"registers": 0, "shared_bytes": 0}
        elif m := re.search(r"Function properties for (\S+)", line):
            row = kernels[arch, kernel] if m.group(1) == kernel else functions.setdefault((arch, m.group(1)), {})
        elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            row.update(zip(("stack_bytes", "spill_store_bytes", "spill_load_bytes"), map(int, m.groups()), strict=True))
        elif m := re.search(r"Used (\d+) registers", line):
            kernels[arch, kernel]["registers"] = int(m.group(1))
            if m := re.search(r"(\d+) bytes smem", line):
                kernels[arch, kernel]["shared_bytes"] = int(m.group(1))
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


def ptx_counts(report):
    """{(architecture, mangled kernel or function): counts} of the PTX that one unit was compiled to."""
    counts = {}
    for path in sorted(report.glob("*.ptx")):
        text = path.read_text()
        arch = re.search(r"^\.target (sm_\d+)", text, re.M)[1]
        counts.update({(arch, name): figures for name, figures in parse_ptx(text).items()})
    return counts


def main(objects, output):
    tables = {"kernel": {}, "function": {}}
    for path in Path(objects).read_text().split():
        report = Path(path + ".report")
        unit = report.name.split(".")[0]
        log, counts = (report / "log").read_text(), ptx_counts(report)
        for (what, table), figures in zip(tables.items(), parse_log(log), strict=True):
            names = demangle(sorted({mangled for _, mangled in figures})) if figures else {}
            for (arch, mangled), figure in figures.items():
                row = {
                    "unit": unit,
                    "arch": arch,
                    what: short(names[mangled]),
                    **figure,
                    **{f"ptx_{k}": v for k, v in counts.get((arch, mangled), {}).items()},
                }
                table.setdefault((arch, row[what]), row)
    rows, functions = (
        sorted(table.values(), key=lambda row: (row["arch"], row.get("kernel", row.get("function"))))
        for table in tables.values()
    )
    Path(output + ".json").write_text(json.dumps({"kernels": rows, "functions": functions}, indent=1) + "\n")

    keys = [
        "registers",
        "shared_bytes",
        "stack_bytes",
        "spill_store_bytes",
        "spill_load_bytes",
        "ptx_f64",
        "ptx_local",
        "ptx_mma",
    ]
    heads = ["regs", "shared", "stack", "spill st", "spill ld", "f64", "local", "mma"]
    lines = [f"{'arch':6}" + "".join(f"{head:>9}" for head in heads) + "  kernel"]
    lines += [f"{row['arch']:6}" + "".join(f"{row[key]:9}" for key in keys) + "  " + row["kernel"] for row in rows]
    Path(output + ".txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
