"""What tools/profile and tools/gpu-check know of NVIDIA's tools: where they are, and how to read what they print.

Metrics are looked up by several names, because they change between versions; what is missing is left out. Needs only
Python's own library.
"""

import csv
import io
import os
import re
import shutil
import statistics
from pathlib import Path

# Kernel bodies (kernels/*.hpp) to the phases of host/device/phases.hpp; the first that matches.
PHASE_OF_KERNEL = [
    (r"\bRollout\b", "rollout"),
    (r"\bGae\b", "gae"),
    (r"\bUpdate\b", "gradient"),
    (r"\bReduceGradients\b", "reduce"),
    (r"\bApplyGradients\b", "apply"),
    (r"\bEvaluate\b", "evaluation"),
    (r"\bSimulate\b", "simulate"),
]
NCU_CSV = ["--csv", "--page", "raw", "--print-units", "base"]  # what ncu_kernels reads
SECONDS = {
    "s": 1.0,
    "second": 1.0,
    "ms": 1e-3,
    "msecond": 1e-3,
    "us": 1e-6,
    "usecond": 1e-6,
    "ns": 1e-9,
    "nsecond": 1e-9,
}
BYTES = {"byte": 1.0, "kbyte": 1e3, "mbyte": 1e6, "gbyte": 1e9, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9}


def find_tool(name):
    places = [os.environ.get("PATH", ""), "/usr/local/cuda/bin", "/usr/local/nvidia/bin"]
    for pattern in ("nsight-compute/*", "nsight-systems/*/bin", "nsight-systems/*"):
        places += sorted(map(str, Path("/opt/nvidia").glob(pattern)), reverse=True)
    return shutil.which(name, path=os.pathsep.join(places))


def phase_of(kernel):
    return next((phase for pattern, phase in PHASE_OF_KERNEL if re.search(pattern, kernel)), "other")


def number(text):
    try:
        return float((text or "").replace(",", ""))
    except ValueError:
        return None


def csv_rows(text, first_column):
    """The rows of the table whose header starts with this column, which may stand after other output."""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if line.lstrip('"').startswith(first_column)]
    if not starts:
        raise ValueError(f"no table with a column {first_column!r}")
    table = []
    for line in lines[starts[0] :]:
        if not line.strip():
            break
        table.append(line)
    return list(csv.DictReader(io.StringIO("\n".join(table))))


def column(row, *names):
    """The first of these columns that the row has."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def nsys_kernels(text):
    """{phase: {seconds of one launch, launches}} from `nsys stats --report cuda_gpu_kern_sum --format csv`."""
    phases = {}
    for row in csv_rows(text, "Time (%)"):
        name = column(row, "Name", "Kernel Name")
        total, count = number(column(row, "Total Time (ns)")), number(column(row, "Instances"))
        middle = number(column(row, "Med (ns)", "Avg (ns)"))
        if name is None or not count or middle is None:
            continue
        entry = phases.setdefault(phase_of(name), {"seconds_per_launch": 0.0, "total_seconds": 0.0, "launches": 0})
        entry["seconds_per_launch"] = max(entry["seconds_per_launch"], 1e-9 * middle)
        entry["total_seconds"] += 1e-9 * (total or 0.0)
        entry["launches"] += int(count)
    return phases


def nsys_ranges(text):
    """{phase: seconds on the GPU of one range} from `nsys stats --report nvtx_gpu_proj_sum --format csv`."""
    ranges = {}
    for row in csv_rows(text, "Range"):
        name = (column(row, "Range") or "").split(":")[-1].strip()
        average = number(column(row, "Proj Med (ns)", "Proj Avg (ns)"))
        if average is not None:
            ranges[name] = 1e-9 * average
    return ranges


def ncu_stalls(row):
    """The reasons why warps wait, {reason: share of the waiting}, largest first."""
    for pattern in (
        r"smsp__average_warps_issue_stalled_(\w+?)_per_issue_active\.ratio",
        r"smsp__warp_issue_stalled_(\w+?)_per_warp_active\.pct",
        r"smsp__pcsamp_warps_issue_stalled_(\w+)",
    ):
        stalls = {}
        for name, text in row.items():
            match = re.fullmatch(pattern, name or "")
            value = number(text) if match else None
            if value and not match.group(1).endswith("not_issued"):
                stalls[match.group(1)] = value
        if stalls:
            total = sum(stalls.values())
            return {k: v / total for k, v in sorted(stalls.items(), key=lambda item: -item[1])}
    return {}


def ncu_kernels(text):
    """What is known of each profiled launch, from `ncu --csv --page raw`, whose second line holds the units."""
    rows = csv_rows(text, "ID")
    units = rows[0] if rows and not rows[0].get("ID") else {}
    return [ncu_kernel(row, units) for row in (rows[1:] if units else rows)]


def ncu_kernel(row, units):
    """What is known of a launch, from its row of metrics."""

    def value(*names, scale=None):
        for name in names:
            found = number(row.get(name))
            if found is not None:
                return found * (scale or {}).get((units.get(name) or "").lower(), 1.0)
        return None

    def share(*names):
        percent = value(*names)
        return None if percent is None else percent / 100.0

    seconds = value("gpu__time_duration.sum", "gpu__time_duration.avg", scale=SECONDS)
    read, written = value("dram__bytes_read.sum", scale=BYTES), value("dram__bytes_write.sum", scale=BYTES)
    moved = value("dram__bytes.sum", scale=BYTES)
    if moved is None and read is not None:
        moved = read + (written or 0.0)
    kernel = {
        "kernel": row.get("Kernel Name"),
        "phase": phase_of(row.get("Kernel Name") or ""),
        "grid": row.get("Grid Size"),
        "block": row.get("Block Size"),
        "seconds": seconds,
        "dram_bytes": moved,
        "occupancy": share("sm__warps_active.avg.pct_of_peak_sustained_active"),
        "sm_throughput": share("sm__throughput.avg.pct_of_peak_sustained_elapsed"),
        "memory_throughput": share(
            "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed",
            "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
        ),
        "tensor_pipe": share(
            "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active",
            "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
        ),
        "registers": value("launch__registers_per_thread"),
        "stalls": ncu_stalls(row),
    }
    return {k: v for k, v in kernel.items() if v not in (None, {})}


def by_phase(kernels):
    """Medians over the launches of each phase."""
    phases = {}
    for phase in dict.fromkeys(kernel["phase"] for kernel in kernels):
        mine = [kernel for kernel in kernels if kernel["phase"] == phase]
        entry = {"launches": len(mine)}
        for key in (
            "seconds",
            "dram_bytes",
            "occupancy",
            "sm_throughput",
            "memory_throughput",
            "tensor_pipe",
            "registers",
        ):
            values = [kernel[key] for kernel in mine if key in kernel]
            if values:
                entry[key] = statistics.median(values)
        stalls = {}
        for kernel in mine:
            for reason, share in kernel.get("stalls", {}).items():
                stalls[reason] = stalls.get(reason, 0.0) + share / len(mine)
        entry["stalls"] = dict(sorted(stalls.items(), key=lambda item: -item[1])[:3])
        phases[phase] = entry
    return phases
