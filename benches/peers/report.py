"""Tables in markdown from the rounds that run.py measured: medians, spreads, ratios to sconce.

A ratio says how many times as good sconce is: tokens per second of sconce by those of the peer,
milliseconds of the peer by those of sconce; above 1, sconce is ahead. It is taken within a round
and the median over the rounds is shown. A peer is compared with the first row of sconce that has
weights of as many bits.
"""
from collections import Counter
from statistics import median

# Where a figure of a visit is, and whether more of it is better.
PREFILL, DECODE = ("single", "prefill"), ("single", "decode")
NAMES = {16: "16 bits", 8: "8 bits", 4: "4 bits (blocks of 32)", 4.5: "4 bits (k-quants)", 32: "32 bits"}


def at(streams, figure):
    return ("load", str(streams), figure)


def value(visit, path):
    for key in path:
        visit = visit.get(key) if visit else None
    return visit


def plural(streams):
    return "1 stream" if streams == 1 else f"{streams} streams"


def more_is_better(path):
    return path[-1] in ("prefill", "decode", "rate")


class Results:
    """The visits of a run, by engine."""

    def __init__(self, result):
        self.result, self.engines = result, result["engines"]

    def visits(self, engine):
        return [visit for visit in self.result["visits"] if visit["engine"] == engine]

    def values(self, engine, path):
        """Of each round that has the figure."""
        found = ((v["round"], value(v, path)) for v in self.visits(engine))
        return {number: figure for number, figure in found if figure is not None}

    def middle(self, engine, path):
        values = self.values(engine, path).values()
        return median(values) if values else None

    def loud(self, engine, path):
        """Whether others used the machine while the figure was taken."""
        foreign = self.values(engine, (*path[:-1], "foreign")).values()
        return any(share > self.result["max_foreign"] for share in foreign)

    def cell(self, engine, path, scale=1.0, digits=0):
        values = [figure * scale for figure in self.values(engine, path).values()]
        if not values:
            return "–"
        mark = "!" if path[0] in ("single", "load") and self.loud(engine, path) else ""
        text = f"{median(values):,.{digits}f}{mark}"
        if len(values) > 1:
            text += f" [{min(values):,.{digits}f}–{max(values):,.{digits}f}]"
        return text

    def measured(self):
        return [key for key in self.engines if self.visits(key)]

    def ours(self, bits, path):
        """sconce's row for weights of so many bits, if it has the figure."""
        for key in self.measured():
            engine = self.engines[key]
            if engine["peer"] == "sconce" and engine["bits"] == bits and self.values(key, path):
                return key
        return None

    def ratio(self, ours, peer, path):
        mine, theirs = self.values(ours, path), self.values(peer, path)
        pairs = [(mine[n], theirs[n]) for n in mine if n in theirs and mine[n] and theirs[n]]
        if not pairs:
            return None
        return median(a / b if more_is_better(path) else b / a for a, b in pairs)

    def ratio_cell(self, engine, path):
        if self.engines[engine]["peer"] == "sconce":
            return ""
        ours = self.ours(self.engines[engine]["bits"], path)
        ratio = self.ratio(ours, engine, path) if ours else None
        return f"{ratio:.2f}" if ratio else "–"

    def best_peer(self, bits, path):
        """The best of the others whose weights have so many bits."""
        peers = [key for key in self.measured() if self.engines[key]["peer"] != "sconce"
                 and self.engines[key]["bits"] == bits and self.values(key, path)]
        if not peers:
            return None
        return (max if more_is_better(path) else min)(peers, key=lambda key: self.middle(key, path))


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def single(results):
    rows = []
    for key in results.measured():
        if results.middle(key, PREFILL) is None:
            continue
        rows.append([results.engines[key]["name"], results.cell(key, PREFILL),
                     results.ratio_cell(key, PREFILL), results.cell(key, DECODE, 1, 1),
                     results.ratio_cell(key, DECODE)])
    head = ["engine", "prefill tok/s", "sconce ×", "decode tok/s", "sconce ×"]
    return table(head, rows) if rows else ""


def load(results, streams):
    rate, rows = at(streams, "rate"), []
    for key in results.measured():
        if results.middle(key, rate) is None:
            continue
        row = [results.engines[key]["name"], results.cell(key, rate, 1, 1), results.ratio_cell(key, rate)]
        for figure, digits in (("ttft_p50", 0), ("ttft_p95", 0), ("gap_p50", 1), ("gap_p95", 1)):
            row.append(results.cell(key, at(streams, figure), 1e3, digits))
        rows.append(row)
    head = ["engine", "tok/s", "sconce ×", "TTFT p50 ms", "TTFT p95 ms", "between tokens p50 ms", "p95 ms"]
    return table(head, rows) if rows else ""


def start(results):
    mib, rows = 1 / 2**20, []
    for key in results.measured():
        if results.middle(key, ("start",)) is None:
            continue
        rows.append([
            results.engines[key]["name"], results.cell(key, ("start",), 1, 2),
            results.cell(key, ("fresh", "resident"), mib), results.cell(key, ("memory", "peak"), mib),
            results.cell(key, ("memory", "resident"), mib), results.cell(key, ("memory", "weights"), mib),
        ])
    head = ["engine", "exec to first answer s", "resident then MiB", "peak MiB", "resident at the end MiB",
            "of it mapped weights MiB"]
    return table(head, rows) if rows else ""


def all_streams(results):
    return sorted({int(s) for visit in results.result["visits"] for s in visit["load"]})


def verdicts(results):
    """sconce beside the best peer with weights of as many bits."""
    rows, streams = [], all_streams(results)
    figures = [("prefill tok/s", PREFILL, 1), ("decode tok/s", DECODE, 1)]
    for n in streams:
        figures += [(f"{plural(n)}, tok/s", at(n, "rate"), 1),
                    (f"{plural(n)}, TTFT p95 ms", at(n, "ttft_p95"), 1e3)]
    for bits, name in NAMES.items():
        for label, path, scale in figures:
            ours, peer = results.ours(bits, path), results.best_peer(bits, path)
            if not ours or not peer:
                continue
            rows.append([f"{name}: {label}", f"{results.middle(ours, path) * scale:,.0f}",
                         f"{results.engines[peer]['name']}: {results.middle(peer, path) * scale:,.0f}",
                         f"{results.ratio(ours, peer, path):.2f}"])
    return table(["figure", "sconce", "best peer", "sconce ×"], rows) if rows else ""


def floors(results):
    """One stream's decode beside what reading the weights allows, both of the same round."""
    rows = []
    for key in results.measured():
        bounds, decodes = results.values(key, ("bound",)), results.values(key, DECODE)
        shares = [decodes[n] / bounds[n] for n in bounds if n in decodes]
        if shares:
            rows.append([results.engines[key]["name"], results.cell(key, ("bound",)),
                         results.cell(key, DECODE, 1, 1), f"{median(shares):.2f}"])
    head = ["engine", "reading the weights allows tok/s", "decode tok/s", "share"]
    return table(head, rows) if rows else ""


def stalls(results):
    """How much later a token comes at worst while others are served, for each engine."""
    solo, rows = at(1, "gap_p50"), []
    for key in results.measured():
        alone = results.middle(key, solo)
        pairs = [(n, results.middle(key, at(n, "gap_p95"))) for n in all_streams(results) if n > 1]
        if alone and any(late for _, late in pairs):
            rows.append([results.engines[key]["name"], f"{alone * 1e3:.1f}"]
                        + [f"{late / alone:.1f}" if late else "–" for _, late in pairs])
    head = ["engine", "alone, p50 ms"] + [f"p95 with {n}, times that" for n in all_streams(results) if n > 1]
    return table(head, rows) if rows else ""


def trust(results):
    """What a reader must know of how tokens were counted and what failed."""
    lines = []
    for key in results.measured():
        name, visits = results.engines[key]["name"], results.visits(key)
        runs = [run for v in visits for run in [v.get("single"), *v["load"].values()] if run]
        uncounted = [run for run in runs if not run["counted"]]
        if uncounted:
            lines.append(f"{name} does not say how many tokens it made; its pieces were counted.")
        pieces = min((run["pieces"] / run["tokens"] for run in runs), default=1)
        if pieces < 0.98:
            lines.append(f"{name} sent {pieces:.0%} as many pieces as tokens: some of its pieces hold several.")
        lines += [f"{name}, round {v['round']}: {v['failure']}" for v in visits if "failure" in v]
        lines += sorted({f"{name}: {v['slow']}; left out." for v in visits if "slow" in v})
    lines += results.result["notes"]
    lines += [f"{name} was skipped: {reason}" for name, reason in results.result["skipped"].items()]
    return "\n".join(f"- {line}" for line in lines)


def settings(results):
    rows = []
    for key in results.measured():
        engine = results.engines[key]
        command = f"`{engine['command']}`"
        if engine["properties"]:
            command += f" with `{engine['properties'].strip()}`"
        rows.append([engine["name"], engine["version"] or "?", engine["http"],
                     "yes" if engine["batches"] else "no", command])
    return table(["engine", "version", "asked through", "batches", "command"], rows)


def render(result, plot):
    """The whole page; `plot` is the path of the picture, if one was drawn."""
    results, it = Results(result), result["machine"]
    prompts = sorted({run["prompt"] for v in result["visits"] for run in v["load"].values() if run["prompt"]})
    parts = [
        f"# {result['title']}",
        f"{result['date']}. {it['cpu']} (family/model/stepping {it['family']}), {it['cores']} cores, of which "
        f"each server had {result['threads']} and as many threads; {it['memory']}, cache {it['cache']}, "
        f"{it['system']}. Flags that kernels are chosen by: {it['flags']}.",
        f"Model: {result['model']}. Each server alone on the machine, its answers greedy and of full length, "
        f"prompts of random words ({'–'.join(f'{p:.0f}' for p in dict.fromkeys((prompts[0], prompts[-1])))} tokens "
        "as the servers count those of the load)." if prompts else f"Model: {result['model']}.",
        f"Medians [least–most] of {rounds(result)}. "
        "`sconce ×` says how many times as good sconce is at weights of as many bits: above 1 it is ahead. "
        f"`!` marks figures during which others took more than {result['max_foreign']:.0%} of the machine.",
        f"```sh\n{result['command']}\n```",
        section("sconce and the best peer", verdicts(results)),
        section("One stream: a prompt of 512 tokens, 128 new ones", single(results)),
        *(section(f"{plural(n)}: prompts of 128 tokens, 64 new ones, "
                  f"{max(3, n * result['requests'])} requests", load(results, n)) for n in all_streams(results)),
        f"![Tokens per second and time between tokens against streams]({plot.name})" if plot else "",
        section("Decode and the bandwidth of the memory, as `sconce check` measures it", floors(results)),
        section("How long a token waits while others are served", stalls(results)),
        section("Start and memory", start(results)),
        section("What was run", settings(results)),
        section("Notes", trust(results)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def rounds(result):
    """How often servers were visited, in words."""
    counts = Counter(visit["engine"] for visit in result["visits"]).values()
    least, most = min(counts, default=0), max(counts, default=0)
    if least == most:
        return f"{most} interleaved rounds"
    return f"{least} to {most} interleaved rounds, as not every server took part in all"


def section(title, body):
    return f"## {title}\n\n{body}" if body else ""


def merge(results):
    """Several runs on one machine as one; rounds are numbered on, so ratios stay within their run."""
    first, *others = results
    for other in others:
        shift = max((v["round"] for v in first["visits"]), default=0)
        for visit in other["visits"]:
            visit["round"] += shift
        first["visits"] += other["visits"]
        first["engines"] |= other["engines"]
        first["notes"] += other["notes"]
        first["skipped"] |= other["skipped"]
        first["command"] += "\n" + other["command"]
    for engine in first["engines"].values():
        first["skipped"].pop(engine["name"], None)
    return first
