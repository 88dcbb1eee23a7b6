#!/usr/bin/env python3
"""Writes the tables of README.md from bench/results/*/*.json: what was measured, and a forecast for a GPU.

  bench/readme_tables.py           rewrite what is between <!-- measured --> and <!-- /measured -->, and forecast alike
  bench/readme_tables.py --check   exit 1 if README.md is not what the results say

Every row names the command that gave it. Needs only Python's own library.
"""

import json
import re
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


def number(x):
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if x >= size:
            return f"{x / size:.3g} {unit}"
    return f"{x:.3g}"


def best(rows, what, **wanted):
    rows = [row for row in rows if row["what"] == what and all(row[key] == value for key, value in wanted.items())]
    return max(rows, key=lambda row: row["steps_per_second"])


def throughput_rows(result):
    rows, command = result["rows"], result["command"]
    environment = result["environment"]
    sim = best(rows, "sim")
    yield (
        f"{environment}: simulator alone, {sim['num_envs']} environments",
        f"{number(sim['steps_per_second'])} steps/s",
        command,
    )
    library = next((row.get("library", "OpenBLAS").split(" (")[0] for row in rows if row["what"] == "sgemm"), "")
    for precision in dict.fromkeys(row["precision"] for row in rows if row["what"] == "train"):
        row = best(rows, "train", precision=precision)
        share = f", {100 * row['share_of_sgemm']:.0f}% of {library}'s fp32 rate" if "share_of_sgemm" in row else ""
        yield (
            (
                f"{environment}: training in {precision}, {row['num_envs']} environments x {row['num_steps']} steps, "
                "2x64 tanh actor and critic, 4 epochs"
            ),
            f"{number(row['steps_per_second'])} steps/s ({row['gflops']:.0f} GFLOP/s{share})",
            command,
        )


def solve_rows(result):
    seconds, steps = result["median_seconds"], result["median_steps"]
    there = ""
    if "median_gymnasium_mean" in result:
        worst = min(row["gymnasium_min"] for row in result["rows"])
        here = statistics.median(row["confirmed_mean"] for row in result["rows"])
        there = (
            f"; median mean return {here:.1f} here, {result['median_gymnasium_mean']:.1f} in Gymnasium "
            f"({result['rows'][0]['gymnasium_episodes']} greedy episodes a seed, worst episode {worst:.0f})"
        )
    if "gymnasium_sampled_mean" in result["rows"][0]:
        here, real = (
            statistics.median(row[key] for row in result["rows"]) for key in ("sampled_mean", "gymnasium_sampled_mean")
        )
        there += f"; with sampled actions {here:.1f} here, {real:.1f} in Gymnasium"
    name = " ".join([result["preset"], *re.findall(r"--set (\S+)", result["command"])])
    yield (
        f"`{name}`: solved on {result['solved']} of {result['runs']} seeds, median",
        f"{seconds:.3g} s, {number(steps)} steps{there}",
        result["command"],
    )


def python_rows(result):
    command = result["command"]
    for row in result["rows"]:
        if row["what"] == "step" and row["num_envs"] == 1:
            yield "Python: `envs.step` of one environment", f"{1e6 * row['seconds_per_call']:.2g} us", command
        elif row["what"] == "step":
            yield (
                f"Python: `envs.step` of {row['num_envs']} environments",
                f"{number(row['steps_per_second'])} steps/s ({row['ratio']:.3g} x Gymnasium's CartPoleVectorEnv)",
                command,
            )
        elif row["what"] == "train":
            yield (
                "Python: `perilune.train`, 1024 environments x 128 steps in fp32",
                f"{number(row['steps_per_second'])} steps/s ({100 * row['ratio']:.0f}% of the program's)",
                command,
            )
        else:
            yield "Python: `import perilune`, NumPy's own time apart", f"{1e3 * row['seconds']:.2g} ms", command


def envpool_rows(result):
    for row in result["rows"]:
        yield (
            f"{row['environment']}, {row['solver']}: `envs.step` of {row['num_envs']} environments from Python",
            (
                f"{number(row['steps_per_second'])} steps/s ({row['ratio']:.3g} x EnvPool's {row['peer']}, "
                f"{number(row['peer_steps_per_second'])} in the same run)"
            ),
            result["command"],
        )


MAKE_ROWS = {"envpool": envpool_rows, "python": python_rows, "solve": solve_rows, "throughput": throughput_rows}

# What the tables of fidelity.json show, and how.
LANDERS = [
    ("same draws: mean return", "{:.1f}", "heuristic pilot, mean return"),
    ("same draws: crashed", "{:.3f}", "heuristic pilot, share of crashes"),
    ("policy set: mean return", "{:.1f}", "60 perturbed pilots, mean return"),
    ("policy set: RMSE of mean returns", "{:.1f}", "60 perturbed pilots, RMSE of their means"),
    ("policy set: correlation of mean returns", "{:.4f}", "60 perturbed pilots, correlation of their means"),
]
WALKERS = [
    ("heuristic: mean return", "{:.1f}", "heuristic pilot, mean return"),
    ("heuristic: KS distance of the returns", "{:.3f}", "heuristic pilot, distance of the returns' distributions"),
    ("random actions: mean return", "{:.1f}", "random actions, mean return"),
    ("policy set: mean return", "{:.1f}", "30 perturbed pilots, mean return"),
    ("policy set: RMSE of mean returns", "{:.1f}", "30 perturbed pilots, RMSE of their means"),
    ("policy set: sampling noise in the RMSE", "{:.1f}", "30 perturbed pilots, what chance alone adds to it"),
    ("policy set: correlation of mean returns", "{:.4f}", "30 perturbed pilots, correlation of their means"),
]


def fidelity_rows(result, table, solvers):
    """A column for Gymnasium and each solver."""
    text = f"| | Gymnasium | {' | '.join(solvers)} |\n" + "|---" * (2 + len(solvers)) + "|\n"
    for comparison, form, words in table:
        rows = [row for row in result["rows"] if row["comparison"] == comparison]
        for environment in dict.fromkeys(row["environment"] for row in rows):
            ours = {row["solver"]: row for row in rows if row["environment"] == environment}
            real = ours["exact"]["real"]
            cells = [form.format(real) if real is not None else ""]
            cells += [form.format(ours[solver]["ours"]) for solver in solvers]
            text += f"| {words}, {environment} | {' | '.join(cells)} |\n"
    return text + "\n"


def passed(result):
    return f"{sum(row['passed'] for row in result['rows'])} of its {len(result['rows'])} rows within their limits"


def fidelity_tables(result):
    """Episodes on the same draws here and in Gymnasium."""
    landers, walkers = result["landers"], result["walkers"]
    text = (
        f"Landers on the same terrain, forces and dispersions here and in Gymnasium {landers['gymnasium']} "
        f"({landers['counts']['same']} flights of its heuristic, {landers['counts']['policies']} pilots x "
        f"{landers['counts']['episodes']} flights; "
        "`tests/gymnasium/fidelity.py --output bench/results/fidelity.json`, with 120 recorded episodes given to it, "
        f"{passed(landers)}):\n\n"
    )
    text += fidelity_rows(landers, LANDERS, ("exact", "fast", "simplified"))
    replayed = [row for row in walkers["rows"] if row["solver"] == "reference"]
    same, episodes = (
        sum(row[key] for row in replayed if row["comparison"] == "episodes with the same last step")
        for key in ("ours", "real")
    )
    error = max(row["ours"] for row in replayed if row["comparison"] == "bodies: largest error")
    counts = walkers["counts"]
    text += (
        f"Walkers on the same terrain, forces and noise ({counts['walks']} walks of Gymnasium's heuristic, "
        f"{counts['policies']} pilots x {counts['episodes']} walks; the same script, {passed(walkers)}). Of recorded "
        f"episodes, played again in Gymnasium's arithmetic, {same:.0f} of {episodes:.0f} end in the same step, and no "
        f"body is ever off by more than {error:.1g}; in float32 walks have nothing in common after some hundred steps, "
        "and samples of them are compared:\n\n"
    )
    return text + fidelity_rows(walkers, WALKERS, ("exact",))


def modules_table(result):
    """The solver's modules against Box2D's: the worst of each module's bodies."""
    text = (
        f"The solver's modules on random inputs beside those of Box2D {result['box2d']}, which computes in float32 "
        "with the C library's sine (`tests/gymnasium/modules.py --output bench/results/modules.json`): the largest "
        "difference in units in the last place of a number, or of 1 where it is smaller, and the share of results "
        "without any. With the C library's sine there is none, but of some impacts: any distance within a quarter of "
        "the linear slop is one, and where Box2D's step-by-step search goes by other features than ours, it stops at "
        "another such distance. Our sine has the same bits on every machine and may be off by a unit, which "
        "cancellation and thresholds enlarge:\n\n"
        "| module | in Box2D | inputs | with the C library's sine | with our sine |\n|---|---|---|---|---|\n"
    )
    rows = result["rows"]
    for module in dict.fromkeys(row["module"] for row in rows):
        of_module = [row for row in rows if row["module"] == module]
        cells = []
        for arithmetic in ("reference", "float"):
            some = [row for row in of_module if row["arithmetic"] == arithmetic]
            share = 100 * min((row["same"] for row in some), default=0)
            cells.append(f"{max(row['ulps'] for row in some):.3g} ({share:.6g}% equal)" if some else "")
        inputs = sum(row["inputs"] for row in of_module if row["arithmetic"] == "reference")
        text += f"| {of_module[0]['words']} | {of_module[0]['real']} | {inputs} | {' | '.join(cells)} |\n"
    return text + "\n"


def forecast_table():
    """Steps per second that the performance model expects of an H200."""
    result = json.loads((ROOT / "bench" / "results" / "h200-predicted" / "model.json").read_text())
    sizes = list(dict.fromkeys(row["num_envs"] for row in result["simulate"]))
    text = f"| FORECAST of steps/s on an {result['gpu'].upper()}, not measured | " + " | ".join(
        f"{n} environments" for n in sizes
    )
    text += " |\n" + "|---" * (len(sizes) + 1) + "|\n"

    def line(what, rows):
        return f"| {what} | " + " | ".join(number(row["steps_per_second"]) for row in rows) + " |\n"

    for environment in dict.fromkeys(row["environment"] for row in result["simulate"]):
        text += line(
            f"{environment}: simulator alone", [row for row in result["simulate"] if row["environment"] == environment]
        )
        for precision in dict.fromkeys(row["precision"] for row in result["train"]):
            text += line(
                f"{environment}: training in {precision}",
                [row for row in result["train"] if (row["environment"], row["precision"]) == (environment, precision)],
            )
    return text


def measured_tables():
    text = ""
    for folder in sorted(path for path in (ROOT / "bench" / "results").iterdir() if path.is_dir()):
        results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        results = [result for result in results if result.get("benchmark") in MAKE_ROWS]
        if not results:
            continue
        first = results[0]
        text += f"{first['processor']}, {first['device']} (bench/results/{folder.name}):\n\n"
        text += "| what | measured | command |\n|---|---|---|\n"
        for result in results:
            for what, value, command in MAKE_ROWS[result["benchmark"]](result):
                text += f"| {what} | {value} | `{command}` |\n"
        text += "\n"
    fidelity, modules = (
        json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text()) for name in ("fidelity", "modules")
    )
    return text + fidelity_tables(fidelity) + modules_table(modules)


def main():
    readme = wanted = README.read_text()
    for name, text in (("measured", measured_tables()), ("forecast", forecast_table())):
        before, rest = wanted.split(f"<!-- {name} -->\n")
        wanted = before + f"<!-- {name} -->\n" + text + rest[rest.index(f"<!-- /{name} -->") :]
    if "--check" in sys.argv[1:]:
        if wanted != readme:
            sys.exit("README.md's tables are not what bench/results says - run bench/readme_tables.py")
    else:
        README.write_text(wanted)


if __name__ == "__main__":
    main()
