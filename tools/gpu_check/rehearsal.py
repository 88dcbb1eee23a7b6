"""NVIDIA's tools for a machine without them: fakes that answer in the format that the real ones were seen to print."""

import os
import sys
from pathlib import Path

NCU_CSV = """==PROF== Connected to process 4711 (perilune)
{"a line": "of the program's own"}
"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC","dram__bytes.sum","gpu__time_duration.sum","launch__registers_per_thread","sm__throughput.avg.pct_of_peak_sustained_elapsed","sm__warps_active.avg.pct_of_peak_sustained_active","smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio","smsp__average_warps_issue_stalled_barrier_not_issued_per_issue_active.ratio","smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio"
"","","","","","","","","","","","Mbyte","usecond","register/thread","%","%","inst","inst","inst"
"0","4711","perilune","h","void run_kernel<Rollout<CartPole, 64>, 64, 0, RolloutArgs>(T4)","1","7","(64, 1, 1)","(256, 1, 1)","0","9.0","80.5","1,200.5","96","61.5","24.75","0.5","9","1.5"
"1","4711","perilune","h","void run_kernel<Update<CartPole, 64>, 64, 0, UpdateArgs>(T4)","1","7","(64, 1, 1)","(528, 1, 1)","0","9.0","40","500","128","70","20","1","9","1"
"2","4711","perilune","h","void run_kernel<Update<CartPole, 64>, 64, 0, UpdateArgs>(T4)","1","7","(64, 1, 1)","(528, 1, 1)","0","9.0","42","700","128","70","22","1","9","1"
"3","4711","perilune","h","void run_kernel<ReduceGradients, 256, 0, ReduceGradientsArgs>(T4)","1","7","(256, 1, 1)","(36, 1, 1)","0","9.0","10","n/a","32","5","50","0","0","2"
"""  # noqa: E501 - as ncu prints it
KERNEL_CSV = """Processing [perilune.sqlite] with [cuda_gpu_kern_sum.py]...
Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Name
90.0,16000000,16,1000000.0,990000.0,900000,1100000,100.0,"void run_kernel<Update<CartPole, 64>, 64, 0, UpdateArgs>(T4)"
8.0,2400000,2,1200000.0,1200000.0,1200000,1200000,0.0,"void run_kernel<Rollout<CartPole, 64>, 64, 0, RolloutArgs>(T4)"

"""
RANGE_CSV = """Range,Style,Total Proj Time (ns),Total Range Time (ns),Range Instances,Proj Avg (ns),Proj Med (ns),Proj Min (ns),Proj Max (ns),Proj StdDev (ns),Total GPU Ops,Avg GPU Ops,Avg Range Lvl,Avg Num Child
perilune:rollout,PushPop,2600000,100000,2,1300000.0,1300000.0,1,2,0.0,2,1.0,1.0,0.0
perilune:gradient,PushPop,17600000,100000,16,1100000.0,1100000.0,1,2,0.0,16,1.0,2.0,0.0
"""  # noqa: E501 - as nsys prints it
NVIDIA_SMI = "no GPU: a rehearsal, none, 0 MiB, 0 MHz, 9.0"
TOOLS = ["nvidia-smi", "compute-sanitizer", "nsys", "ncu"]

# A sanitizer runs the program; the profilers only print.
FAKE = """#!{python}
import os, pathlib, sys
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
if name == "compute-sanitizer":
    print("========= COMPUTE-SANITIZER\\n========= ERROR SUMMARY: 0 errors", flush=True)
    at = next(i for i, word in enumerate(words) if os.access(word, os.X_OK))
    os.execv(words[at], words[at:])
elif name == "nsys" and words[0] == "profile":
    pathlib.Path(words[words.index("-o") + 1]).write_text("")
elif name == "nsys":
    print({reports!r}[words[words.index("--report") + 1]])
else:
    print({{"nvidia-smi": {smi!r}, "ncu": {ncu!r}}}[name])
"""


def fake_tools(folder):
    """Writes them, and puts them first on this process's PATH; hides a GPU that may be there."""
    folder.mkdir()
    text = FAKE.format(
        python=sys.executable,
        smi=NVIDIA_SMI,
        ncu=NCU_CSV,
        reports={"cuda_gpu_kern_sum": KERNEL_CSV, "nvtx_gpu_proj_sum": RANGE_CSV},
    )
    for name in TOOLS:
        path = Path(folder) / name
        path.write_text(text)
        path.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
