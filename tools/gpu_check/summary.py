"""The page that says how it went: what passed and failed, and the rates beside the performance model."""

GOOD = ("passed", "skipped")
NEAR = 0.8  # of the predicted rate: what is slower is a miss, whose first suspect is named


def rate(value):
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} "


def slowest_phase(profile):
    """The phase that loses most against its prediction, as words; nothing where none does."""
    late = [(row["seconds"] - row["predicted_seconds"], row) for row in profile["phases"] if row["seconds"]]
    lost, row = max(late, key=lambda entry: entry[0], default=(0.0, None))
    if lost <= 0.0:
        return ""
    return (
        f"{row['phase']} takes {row['seconds'] / row['predicted_seconds']:.1f} times its prediction at "
        f"{profile['num_envs']} environments, bound by {row['bound']}"
    )


def waiting(counters, phase):
    """Why that phase's warps wait, by Nsight Compute."""
    rows = [*(counters or {}).get("training", {}).get("phases", []), *(counters or {}).get("simulate", [])]
    stalls = next((row.get("stalls", {}) for row in rows if row["phase"] == phase), {})
    return next(
        (f"; its warps wait for {reason} ({100 * share:.0f}%)" for reason, share in stalls.items()),
        "; why its warps wait is not known (ncu)",
    )


def suspect(row, profiles, counters):
    if row["what"] != "train":
        return "simulate, the only kernel" + waiting(counters, "simulate")
    profile = (profiles or {}).get(row["precision"])
    if not profile:
        return "not known: the phases were not measured"
    words = slowest_phase(profile)
    return words + waiting(counters, words.split()[0]) if words else "no single phase: the time between kernels (nsys)"


def headline_lines(result, profiles, counters):
    yield f"  {'what':12} {'environments':>12} {'measured':>14} {'model':>14} {'share':>6}"
    misses = []
    for row in result.get("rows", []):
        predicted = row.get("predicted_steps_per_second")
        name = f"{row['what']} {row.get('precision', '')}".strip()
        share = row["steps_per_second"] / predicted if predicted else None
        cells = ("-", "-") if share is None else (f"{rate(predicted)}steps/s", f"{100 * share:.0f}%")
        measured = f"{rate(row['steps_per_second']):>7}steps/s"
        yield f"  {name:12} {row['num_envs']:>12} {measured} {cells[0]:>14} {cells[1]:>6}"
        if share is not None and share < NEAR:
            misses.append((f"{name} with {row['num_envs']} environments", share, suspect(row, profiles, counters)))
    if misses:
        yield ""
        yield f"below {100 * NEAR:.0f}% of the model, and the first suspect:"
    for name, share, words in misses:
        yield f"  {name} ({100 * share:.0f}%): {words}"


def page(state, stages, results):
    """state: gpu-check.json. results(name): what a stage found, or None."""
    own = state["identity"]
    lines = [f"{own['program']} on {own['gpu']}, driver {own['driver']}: {state['seconds']} s of stages"]
    for status in ("passed", "skipped", "failed", "left out"):
        names = [name for name in stages if state["stages"].get(name, {"status": "left out"})["status"] == status]
        if not names:
            continue
        if status in ("passed", "left out"):
            lines.append(f"{status}: {', '.join(names)}")
            continue
        lines.append(f"{status}:")
        for name in names:
            lines.append(f"  {name}: {state['stages'][name]['problem']}")
            if name == "tests":  # each with its first line of failure
                lines += [f"    {line}" for line in state["stages"][name].get("output", "").splitlines()[:20]]
    headline = results("headline")
    if headline:
        lines += [
            "",
            f"CartPole-v1, {headline.get('device', own['gpu'])}:",
            *headline_lines(headline, results("phases"), results("ncu")),
        ]
    rows = [
        (name, row)
        for name in ("lander", "lunar-lander-fast", "lunar-lander")
        for row in (results(name) or {}).get("rows", [])
        if row["what"] != "step"
    ]
    if rows:
        lines += ["", "landers:"]
    for name, row in rows:
        lines.append(
            f"  {name:18} {row['what']:5} {row.get('precision', ''):5} {row['num_envs']:>8} "
            f"{rate(row['steps_per_second']):>7}steps/s"
        )
    solved = results("solve")
    if solved:
        lines += [
            "",
            f"CartPole solved on {solved['solved']} of {solved['runs']} seeds, median {solved['median_seconds']:.3g} s",
        ]
    return "\n".join(lines) + "\n"
