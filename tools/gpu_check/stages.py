"""The stages of gpu-check, what matters most first: each returns what it found, or raises Failed."""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass

import nsight
from gpu_check.machine import ROOT, Failed, Skipped, each
from gpu_check.shards import Shards, test_names

TO_THE_END = ["target_return=none", "eval_every=0"]
# Two iterations are enough for the sanitizers, which slow a kernel down a hundred times.
SMALL_RUN = [
    *TO_THE_END,
    "num_envs=64",
    "num_steps=16",
    "num_minibatches=4",
    "update_epochs=2",
    "total_timesteps=2048",
    "eval_episodes=8",
]
# A test of every kernel, small ones.
SANITIZED_TESTS = [
    "AdvantageTest.RandomEnds",
    "OptimizerTest.FollowsAdamInDouble",
    "RolloutTest.TwoLaunchesAreOneLongLaunch",
    "SimulateTest.StepsAsByHand",
    "EvaluateTest.Deterministic",
    "UpdateTest.DoesNothingOnceStopped",
    "WholeIterationTest.RepeatsBitForBit",
]


def same_policies(machine, name, variants, settings):
    """The policy's digest, which is the same for all {variant: (options, environment)}."""

    def train(number, options, environment):
        run_dir = f"{name}_{number}"
        machine.train(run_dir, "cartpole", settings, *options, environment=environment)
        return hashlib.sha256((machine.scratch / run_dir / "policy.safetensors").read_bytes()).hexdigest()[:16]

    digests = each(
        {
            variant: lambda number=number, how=how: train(number, *how)
            for number, (variant, how) in enumerate(variants.items())
        },
        at_once=4,
    )
    if len(set(digests.values())) != 1:
        raise Failed(
            f"different policies: {', '.join(f'{variant} {digest}' for variant, digest in digests.items())}",
            results=digests,
        )
    return digests


def smoke(machine):
    """Small trainings, as a graph and launched one by one, kernels overlapping and not: the same policy's bits."""
    variants = {
        f"graph {graph}, overlap {overlap}": (["--graph", graph], {"PERILUNE_CUDA_OVERLAP": overlap})
        for graph in ("on", "off")
        for overlap in ("on", "off")
    }
    settings = [*TO_THE_END, "num_envs=256", "num_steps=32", "total_timesteps=81920", "eval_episodes=8"]
    return each(
        {
            f"KL stop {stop}": lambda target=target, stop=stop: same_policies(
                machine, f"smoke_{stop}", variants, [*settings, f"target_kl={target}"]
            )
            for stop, target in (("off", "0"), ("on", "0.005"))
        }
    )


def throughput(machine, envs, *options):
    return machine.json(
        machine.program("bench_throughput"),
        "--device",
        machine.device,
        "--envs",
        envs,
        "--precision",
        ",".join(machine.sizes.precisions),
        "--seconds",
        machine.sizes.seconds,
        "--skip-sgemm",
        *options,
    )


def headline(machine):
    """CartPole: the simulator alone, stepping, and training in each precision, beside the model."""
    return throughput(machine, machine.sizes.headline_envs)


def tests(machine):
    """The GPU tests, in a process for each core, none skipped."""
    program = machine.program("gpu_tests")
    names = test_names(machine.run(program, "--gtest_list_tests"))
    if not names:
        raise Failed("gpu_tests lists no test")
    shards = Shards(machine, program, machine.require_gpu)
    left = shards.run(names)
    results = {
        "tests": len(names),
        "passed": len(shards.passed),
        "skipped": sorted(shards.skipped),
        "failed": dict(sorted(shards.failed.items())),
        "not_run": left,
        "processes": shards.processes,
    }
    counts = {
        "failed": len(shards.failed),
        "skipped": 0 if machine.rehearsing else len(shards.skipped),
        "not run": len(left),
    }
    if any(counts.values()):
        text = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        raise Failed(
            f"of {len(names)} tests {text}",
            "\n".join(
                [
                    *(f"{name}: {line}" for name, line in results["failed"].items()),
                    *(f"{name}: not run" for name in left),
                ]
            ),
            results,
        )
    return results


def states(machine):
    """A million random steps of 1024 environments end in the same bits on the GPU and on the CPU."""
    hashes = each(
        {
            device: lambda device=device: machine.json(
                machine.program("bench_kernels"), "--states-only", "--device", device
            )["states"]
            for device in dict.fromkeys((machine.device, "cpu"))
        }
    )
    if len(set(hashes.values())) != 1:
        raise Failed(f"different states: {hashes}", results=hashes)
    return hashes


def equal(machine):
    """In each precision the same policy, bit for bit: as a graph, launched one by one, and once more."""
    variants = {"graph": (["--graph", "on"], {}), "eager": (["--graph", "off"], {}), "again": (["--graph", "on"], {})}
    settings = [
        *TO_THE_END,
        "num_envs=256",
        "num_steps=32",
        "total_timesteps=81920",
        "target_kl=0.02",
        "hidden_width=64",
        "eval_episodes=8",
    ]
    return each(
        {
            precision: lambda precision=precision: same_policies(
                machine, f"equal_{precision}", variants, [*settings, f"precision={precision}"]
            )
            for precision in machine.sizes.precisions
        }
    )


def sanitizer(tool):
    def stage(machine):
        path = nsight.find_tool("compute-sanitizer")
        if not path:
            raise Skipped("compute-sanitizer is not installed")
        wrapper = [path, "--tool", tool, "--error-exitcode", "9"]
        program = machine.program("gpu_tests")
        names = test_names(machine.run(program, "--gtest_list_tests"))
        missing = [wanted for wanted in SANITIZED_TESTS if not any(wanted in name for name in names)]
        if missing:
            raise Failed(f"gpu_tests has no {', '.join(missing)} - name tests that it has in tools/gpu_check/stages.py")
        tests = ":".join(f"*{name}*" for name in SANITIZED_TESTS)
        said = each(
            {
                "training": lambda: machine.train(
                    f"sanitizer_{tool}", "cartpole", SMALL_RUN, "--graph", "off", wrapper=wrapper
                ),
                "tests": lambda: machine.run(
                    *wrapper, program, f"--gtest_filter={tests}", environment=machine.require_gpu
                ),
            }
        )
        return {name: [line for line in text.splitlines() if "SUMMARY" in line] for name, text in said.items()}

    stage.__doc__ = f"compute-sanitizer's {tool} over a small training run and a test of each kernel."
    return stage


def lander(environment, *settings):
    def stage(machine):
        options = ["--env", environment, *(word for setting in settings for word in ("--set", setting))]
        result = {}
        for envs in machine.sizes.lander_envs.split(","):  # one by one: a large number may take too long
            try:
                more = throughput(machine, envs, *options)
            except Failed as failure:
                raise Failed(f"{envs} environments: {failure}", failure.output, result or None) from failure
            result = {
                **more,
                "command": f"{result['command']} and {more['command']}" if result else more["command"],
                "rows": result.get("rows", []) + more["rows"],
            }
        return result

    stage.__doc__ = f"{' '.join([environment, *settings])}: the simulator alone, stepping, and training."
    return stage


def profile_settings(machine, *more):
    """Those of bench_throughput's trainings and of bench/predict.py."""
    words = []
    for setting in (
        f"num_envs={machine.sizes.profile_envs}",
        f"num_steps={machine.sizes.steps}",
        "num_minibatches=4",
        "update_epochs=4",
        "hidden_width=64",
        "hidden_layers=2",
        *more,
    ):
        words += ["--set", setting]
    return words


def phases(machine):
    """Where an iteration's time goes in each precision, by the program's own events, beside the model."""
    return each(
        {
            precision: lambda precision=precision: machine.json(
                machine.program("perilune"),
                "profile",
                "cartpole",
                "--device",
                machine.device,
                "--json",
                "--iterations",
                machine.sizes.profile_iterations,
                *profile_settings(machine, f"precision={precision}"),
            )
            for precision in machine.sizes.precisions
        }
    )


def profile_with(machine, tool):
    """tools/profile with one of its tools; what it keeps for the graphical one lies in the folder of the results."""
    report = machine.json(
        sys.executable,
        "tools/profile",
        "cartpole",
        "--json",
        "--tools",
        tool,
        "--iterations",
        "5",
        "--program",
        ROOT / machine.program("perilune"),
        "--out",
        machine.folder / tool,
        "--limit",
        f"{max(1.0, machine.left - 2.0):.0f}",
        *(["--rehearse"] if machine.rehearsing else []),
        *profile_settings(machine),
    )
    return {key: report[key] for key in ("phases", tool)}


def ncu(machine):
    """Nsight Compute's counters of rollout, gae, update, reduce, apply and simulate."""
    tool = nsight.find_tool("ncu")
    if not tool:
        raise Skipped("ncu is not installed")

    def simulate():
        text = machine.run(
            tool,
            *nsight.NCU_CSV,
            "--clock-control",
            "none",
            "--set",
            "full",
            "--kernel-name-base",
            "demangled",
            "--kernel-name",
            "regex:Simulate",
            "--launch-count",
            "2",
            machine.program("bench_kernels"),
            "--states-only",
            "--device",
            machine.device,
        )
        (machine.folder / "ncu_simulate.csv").write_text(text)
        return nsight.ncu_kernels(text)

    return each({"training": lambda: profile_with(machine, "ncu"), "simulate": simulate})


def nsys(machine):
    """Nsight Systems' timeline of the iteration's ranges and kernels."""
    if not nsight.find_tool("nsys"):
        raise Skipped("nsys is not installed")
    return profile_with(machine, "nsys")


def kernels(machine):
    """Each kernel checked against double and timed, in each precision; other widths in the automatic one."""

    def run(width, precision):
        return lambda: machine.json(
            machine.program("bench_kernels"),
            "--device",
            machine.device,
            "--width",
            width,
            "--precision",
            precision,
            *machine.sizes.kernel_options,
        )

    settings = [(64, precision) for precision in machine.sizes.precisions]
    settings += [(width, "auto") for width in machine.sizes.widths if width != 64]
    return each({f"width {width}, {precision}": run(width, precision) for width, precision in settings})


def libraries(machine):
    """Kernels beside those of CUB and cuBLAS that do the same work."""
    # In a rehearsal it is the same program on an emulated GPU, and loops in the libraries' places.
    program = machine.program("bench_libraries_emulated" if machine.rehearsing else "bench_libraries")
    return machine.json(program, "--seconds", machine.sizes.seconds, *machine.sizes.library_options)


def sweep(machine):
    """Whole training iterations over numbers of environments, widths and precisions."""

    def run(width, precision):
        return lambda: machine.json(
            machine.program("bench_throughput"),
            "--device",
            machine.device,
            "--seconds",
            machine.sizes.sweep_seconds,
            "--skip-sim",
            "--skip-sgemm",
            "--envs",
            machine.sizes.sweep_envs,
            "--width",
            width,
            "--precision",
            precision,
        )["rows"]

    return each(
        {
            f"width {width}, {precision}": run(width, precision)
            for precision in machine.sizes.precisions
            for width in machine.sizes.widths
        }
    )


def solve(machine):
    """Seconds until CartPole is solved, five seeds."""
    result = machine.json(
        sys.executable,
        "bench/solve.py",
        "cartpole",
        "--seeds",
        machine.sizes.seeds,
        "--device",
        machine.device,
        "--confirm",
        machine.sizes.confirm,
        "--program",
        ROOT / machine.program("perilune"),
    )
    if result["solved"] < result["runs"]:
        raise Failed(f"solved on {result['solved']} of {result['runs']} seeds", results=result)
    return result


def wide(machine):
    """Iterations of networks that go layer by layer through cuBLAS."""

    def run(sizes, precision):
        words = [
            "num_steps=16",
            "num_minibatches=4",
            "update_epochs=1",
            f"num_envs={machine.sizes.wide_envs}",
            f"hidden_sizes={sizes}",
            f"precision={precision}",
        ]
        return lambda: machine.json(
            machine.program("perilune"),
            "profile",
            "cartpole",
            "--device",
            machine.device,
            "--json",
            "--iterations",
            machine.sizes.profile_iterations,
            *(word for setting in words for word in ("--set", setting)),
        )

    return each(
        {
            f"{sizes}, {precision}": run(sizes, precision)
            for sizes in machine.sizes.wide
            for precision in machine.sizes.precisions
            if precision != "bf16"
        }
    )


@dataclass(frozen=True)
class Stage:
    run: Callable
    limit: float  # seconds
    file: str  # of its results, below the folder
    beside: str = ""  # stages of the same word run at once


# throughput*.json and solve*.json are what README's tables are made of.
STAGES = {
    "smoke": Stage(smoke, 30, "smoke.json"),
    "headline": Stage(headline, 40, "throughput.json"),
    "tests": Stage(tests, 75, "tests.json", "correctness"),
    "states": Stage(states, 40, "states.json", "correctness"),
    "equal": Stage(equal, 60, "equal.json", "correctness"),
    **{
        f"sanitizer-{tool}": Stage(sanitizer(tool), 75, f"sanitizer-{tool}.json", "correctness")
        for tool in ("memcheck", "racecheck", "initcheck", "synccheck")
    },
    "lander": Stage(lander("Lander-v0"), 20, "throughput_lander.json"),
    "lunar-lander-fast": Stage(
        lander("LunarLander-v3", "env.fast_solver=true"), 25, "throughput_lunar-lander-fast.json"
    ),
    "lunar-lander": Stage(lander("LunarLander-v3"), 40, "throughput_lunar-lander.json"),
    "phases": Stage(phases, 30, "phases.json"),
    "ncu": Stage(ncu, 90, "ncu.json"),
    "kernels": Stage(kernels, 60, "kernels.json"),
    "libraries": Stage(libraries, 30, "libraries.json"),
    "sweep": Stage(sweep, 90, "sweep.json"),
    "solve": Stage(solve, 40, "solve_cartpole.json"),
    "nsys": Stage(nsys, 60, "nsys.json"),
    "wide": Stage(wide, 40, "wide.json"),
}
