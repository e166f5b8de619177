#!/usr/bin/env python3
"""Measures sconce beside what users would pick instead, on the same weights, prompts and cores.

    python3 benches/peers/run.py [--engines sconce-bf16 llama ...] [--modes single load start]

One server at a time has the machine: it is started, asked, and ended. A round has each engine
once; rounds follow each other (A B C A B C), so that the machine's drift hits all alike. Ratios to
sconce are taken within a round. Engines that are not there are skipped with what would install
them. After each engine the results are written to OUT.json, OUT.md and OUT.svg, so a run that is
cut off loses little. README.md beside this file tells more.
"""
import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path

import machine
import plot
import report
from engines import ENGINES, ROOT, Setting
from load import Client
from process import Failure, Server, free_port, read_into_cache

MODES = ("single", "load", "start")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--engines", nargs="+", default=["all"], metavar="NAME",
        help="beginnings of names such as sconce, llama-cpp-q8-0 (see --list); default: all")
    add("--list", action="store_true", help="print the engines and what is missing, and end")
    add("--modes", nargs="+", choices=MODES, default=MODES)
    add("--rounds", type=int, default=3)
    add("--slow-rounds", type=int, metavar="N",
        help="rounds with vLLM and transformers, which take long to start; default: all")
    add("--minutes", type=float, default=float("inf"), help="begin nothing that is not expected to end by then")
    add("--streams", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32], metavar="N")
    add("--again", nargs="+", type=int, metavar="N", help="those that rounds after the first measure; default: all")
    add("--requests", type=int, default=2, help="of each stream in mode load; at least 3 in all")
    add("--limit", type=float, default=60, metavar="S", help="longest time for one number of streams, or mode single")
    add("--settle", type=float, default=20, metavar="S",
        help="longest wait before each server for a machine that nobody else uses")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="and cores of each server")
    add("--model", type=Path, default=ROOT / "models" / "smollm2-135m-instruct")
    add("--peers", type=Path, default=ROOT / "target" / "peers", help="where install.py has put them")
    add("--sconce", type=Path, default=ROOT / "target" / "release" / "sconce")
    add("--out", type=Path, default=ROOT / "target" / "peers-results" / "latest", help="without its ending")
    add("--title", default="sconce beside its peers on a CPU")
    add("--max-foreign", type=float, default=0.05, metavar="SHARE",
        help="share of the machine that others may take before a figure is marked")
    add("--render", nargs="+", type=Path, metavar="JSON", help="measure nothing, write OUT.md and OUT.svg of these")
    return parser.parse_args()


def chosen(names):
    """The engines whose keys begin with one of the names, in the order of the names."""
    if names == ["all"]:
        return list(ENGINES)
    found = []
    for name in names:
        exact = [one for one in ENGINES if one.key == name]
        some = exact or [one for one in ENGINES if one.key.startswith(name)]
        if not some:
            sys.exit(f"no engine begins with {name!r}; there are {' '.join(e.key for e in ENGINES)}")
        found += [one for one in some if one not in found]
    return found


async def visit(engine, setting, args, number):
    """One engine's part of one round. What was measured before a failure is kept."""
    read_into_cache(engine.weights(setting))
    got, port = {"engine": engine.key, "round": number, "load": {}}, free_port()
    if "single" in args.modes:
        got["bound"] = engine.bound(setting)
    cores = sorted(os.sched_getaffinity(0))[:args.threads]
    environment = engine.environment(setting)
    began = time.monotonic()
    try:
        with Server(engine.command(setting, str(port)), environment, port, cores) as server:
            client = Client(engine, setting, server, args.limit)
            got["start"] = await client.first_answer(engine.patience)
            got["fresh"] = machine.memory(server.pid)
            if "single" in args.modes:
                got["single"] = await client.single(1000 + number, 3, 512, 128, args.limit)
            if "load" in args.modes:
                await levels(client, engine, args, number, got)
            got["memory"] = machine.memory(server.pid)
    except Exception as error:  # one server's trouble leaves the others alone
        what = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
        got["failure"] = short(what, setting)
    got["seconds"] = time.monotonic() - began
    return got


async def levels(client, engine, args, number, got):
    """Rising numbers of streams, until one is expected to take too long."""
    wanted = args.again if args.again and number > 1 else args.streams
    for streams in wanted:
        requests = max(3, streams * args.requests)
        known = got["load"].values()
        if known and requests * 64 / max(one["rate"] for one in known) > args.limit:
            got["slow"] = f"{streams} streams would take more than {args.limit:.0f} s"
            return
        seed = 100_000 * number + streams
        if not got["load"]:
            await client.level(seed + 50, 1, 1, 128, 64, args.limit)
        got["load"][str(streams)] = await client.level(seed, streams, requests, 128, 64, args.limit)


def say(text):
    print(text, file=sys.stderr, flush=True)


def summary(got):
    """One line for whoever waits."""
    parts = []
    if "start" in got:
        parts.append(f"first answer {got['start']:.1f} s")
    if "single" in got:
        parts.append(f"prefill {got['single']['prefill']:.0f} decode {got['single']['decode']:.1f} tok/s")
    parts += [f"{streams}: {one['rate']:.0f}" for streams, one in got["load"].items()]
    foreign = [one["foreign"] for one in [got.get("single"), *got["load"].values()] if one]
    if foreign:
        parts.append(f"others took up to {max(foreign):.0%}")
    if "failure" in got:
        parts.append(f"FAILED: {got['failure']}")
    return f"# round {got['round']}, {got['engine']}: {', '.join(parts)} ({got['seconds']:.0f} s)"


def measure(args, setting, engines):
    skipped, there = {}, []
    for engine in engines:
        reason = engine.missing(setting)
        if reason:
            skipped[engine.name] = reason
            say(f"# skipped {engine.name}: {reason}")
        else:
            there.append(engine)
    if not there:
        sys.exit("nothing to measure")
    result = {
        "title": args.title, "date": time.strftime("%Y-%m-%d %H:%M %Z"), "machine": machine.describe(),
        "command": short(shlex.join(["python3", *sys.argv]), setting), "threads": args.threads,
        "requests": args.requests, "max_foreign": args.max_foreign, "model": setting.model.name,
        "engines": {e.key: entry(e, setting) for e in there}, "skipped": skipped, "visits": [], "notes": [],
    }
    began, took, broken = time.monotonic(), {}, {}
    for number in range(1, args.rounds + 1):
        late = []
        for engine in there:
            if broken.get(engine.key, 0) >= 2 or engine.slow and number > (args.slow_rounds or number):
                continue
            left = 60 * args.minutes - (time.monotonic() - began)
            if took.get(engine.key, 120 if engine.slow else 30) > left:
                late.append(engine.name)
                continue
            machine.settle(args.settle, args.max_foreign)
            got = asyncio.run(visit(engine, setting, args, number))
            took[engine.key] = got["seconds"]
            broken[engine.key] = broken.get(engine.key, 0) + ("failure" in got)
            result["visits"].append(got)
            say(summary(got))
            write(args.out, result)
        if late:
            result["notes"].append(f"Round {number} is without {', '.join(late)}, which would have ended "
                                   f"after the {args.minutes:g} minutes that were given.")
            say(f"# {result['notes'][-1]}")
            write(args.out, result)
    return result


def short(text, setting):
    """Without the paths of this machine."""
    for path, name in ((setting.scratch, "SCRATCH"), (setting.peers, "PEERS"), (setting.sconce, "SCONCE"),
                       (setting.model, "MODEL"), (ROOT, ".")):
        text = text.replace(str(path), name)
    return text


def entry(engine, setting):
    """What the report tells of an engine."""
    command = short(shlex.join(str(word) for word in engine.command(setting, "PORT")), setting)
    settings = " ".join(f"{k}={v}" for k, v in engine.environment(setting).items())
    return {
        "name": engine.name, "peer": engine.peer, "form": engine.form, "bits": engine.bits,
        "http": engine.http, "batches": engine.batches, "version": engine.version(setting),
        "command": f"{settings} {command}".strip(), "properties": getattr(engine, "properties", ""),
    }


def rounded(value):
    """Figures with five digits, which is more than they are worth."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def write(out, result):
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_name(out.name + ".json").write_text(json.dumps(rounded(result), indent=1) + "\n")
    text = report.render(result, plot.draw(result, out.with_name(out.name + ".svg")))
    out.with_name(out.name + ".md").write_text(text)


def main():
    args = arguments()
    args.model, args.peers, args.sconce = (p.absolute() for p in (args.model, args.peers, args.sconce))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    if args.render:
        write(args.out, report.merge([json.loads(path.read_text()) for path in args.render]))
        return
    engines = chosen(args.engines)
    with tempfile.TemporaryDirectory(prefix="sconce-peers-") as scratch:
        setting = Setting(args.model, args.peers, args.sconce, Path(scratch), args.threads,
                          max(args.streams), 768)
        if args.list:
            for engine in engines:
                print(f"{engine.key:28} {engine.missing(setting) or engine.version(setting)}")
            return
        result = measure(args, setting, engines)
    print(report.render(result, None))


if __name__ == "__main__":
    main()
