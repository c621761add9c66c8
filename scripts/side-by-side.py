#!/usr/bin/env python3
"""Runs perfprof, stock candle and llama.cpp on the same weights in interleaved rounds and writes docs/results/engine-cpu.{json,md}.

Every round measures each engine, format and context once, in an order drawn anew per round from a seed, so that a slow minute of the
machine hits all engines alike. Each sample records how much CPU time other processes took meanwhile; a disturbed one is repeated, and the least
disturbed attempt counts (never the fastest). Ratios are taken within a round
(perfprof / peer, above 1 is faster) and reported as their median with a bootstrap interval over the rounds.

Engines are found through the environment; one that is not set or not there is a line in the table:
  PERFPROF                      perfprof, release build (default: target/release/perfprof)
  PERFPROF_STOCK_CANDLE         benches/peers/stock_candle, default build
  PERFPROF_STOCK_CANDLE_NATIVE  the same built with RUSTFLAGS=-Ctarget-cpu=native
  PERFPROF_LLAMA_BENCH          llama-bench of scripts/peers/build-llama-cpp.sh (a llama-quantize beside it makes the other formats)
  PERFPROF_STAGE1_ARGS          further overrides for perfprof stage1, e.g. 'engine.ops=fused'
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import random
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FORMATS = ("q4_1", "q8_0", "f32", "bf16")
PHASES = ("prefill", "decode")
SCHEMA_VERSION = 1
# A sample counts as disturbed if other processes used more than this share of the machine while it ran.
DISTURBED_SHARE = 0.05


class Failed(Exception):
    """An engine did not deliver a sample; the text says why."""


def busy_seconds():
    """CPU seconds spent by the whole machine since boot, idle and iowait left out."""
    fields = [int(word) for word in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def pressure_seconds():
    """Seconds in which some task waited for a CPU since boot; None where the kernel does not say."""
    try:
        text = pathlib.Path("/proc/pressure/cpu").read_text()
    except OSError:
        return None
    return int(text.split("\n", 1)[0].rsplit("total=", 1)[1]) / 1e6


def observed(command, timeout, **options):
    """Runs a command; returns its stdout and what the machine did meanwhile."""
    before = (time.monotonic(), busy_seconds(), pressure_seconds(), resource.getrusage(resource.RUSAGE_CHILDREN))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"no answer within {timeout} s") from error
    except OSError as error:
        raise Failed(str(error)) from error
    after = (time.monotonic(), busy_seconds(), pressure_seconds(), resource.getrusage(resource.RUSAGE_CHILDREN))
    wall = after[0] - before[0]
    own = (after[3].ru_utime + after[3].ru_stime) - (before[3].ru_utime + before[3].ru_stime)
    contention = {
        "wall_s": round(wall, 3),
        "cpu_s": round(own, 3),
        "other_cpu_share": round(max(0.0, after[1] - before[1] - own) / (wall * os.cpu_count()), 4),
        "involuntary_switches": after[3].ru_nivcsw - before[3].ru_nivcsw,
        "cpu_pressure_share": None if before[2] is None else round((after[2] - before[2]) / wall, 4),
    }
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Failed(f"exit code {done.returncode}: {' / '.join(said[-3:])[:300]}")
    return done.stdout, contention


def wait_until_quiet(limit_s):
    """Waits, at most so long, for two seconds in which the machine is nearly idle."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        start, busy = time.monotonic(), busy_seconds()
        time.sleep(2)
        if (busy_seconds() - busy) / ((time.monotonic() - start) * os.cpu_count()) < DISTURBED_SHARE:
            return


def least_disturbed(engine, setting, args):
    """One sample, taken again while other processes disturb it; the choice looks at them alone, never at the rates."""
    best = None
    for attempt in range(1, args.retries + 2):
        if args.wait_quiet > 0:
            wait_until_quiet(args.wait_quiet)
        values, contention = engine.sample(setting, args.new, args.timeout)
        if best is None or contention["other_cpu_share"] < best[1]["other_cpu_share"]:
            best = (values, contention)
        if best[1]["other_cpu_share"] <= DISTURBED_SHARE:
            break
    return *best, attempt


class Perfprof:
    """perfprof stage1, through its command line and its metrics.json."""

    name = "perfprof"

    def __init__(self, program, threads):
        self.program, self.threads = program, threads

    def version(self):
        try:
            return observed([self.program, "--version"], 30)[0].strip() or "unknown"
        except Failed as error:
            return f"unknown ({error})"

    def sample(self, setting, new, timeout):
        """One repeat without operator spans; prefill and decode come from the same generation."""
        with tempfile.TemporaryDirectory(prefix="side-by-side-") as root:
            command = [
                self.program, "--output-root", root, "stage1", f"model.path={setting['file']}", f"model.dtype={setting['format']}",
                f"prompt_tokens={setting['prompt']}", f"infer.max_new_tokens={new + 1}", f"engine.threads={self.threads}", "device=cpu",
                "repeats=1", "warmup=1", "profiling.span_repeats=0", "hardware.measure=never", "run.allow_invalid=true", "--json",
                *shlex.split(os.environ.get("PERFPROF_STAGE1_ARGS", "")),
            ]
            _, contention = observed(command, timeout)
            found = sorted(pathlib.Path(root).rglob("metrics.json"))
            if len(found) != 1:
                raise Failed(f"{len(found)} metrics.json written, expected 1")
            measures = json.loads(found[0].read_text())["measures"]
        values = {}
        for phase in PHASES:
            value = measures.get(f"{phase}_tok_per_s", {}).get("p50")
            if value is None:
                raise Failed(f"metrics.json has no {phase}_tok_per_s.p50")
            values[phase] = value
        return values, contention


class StockCandle:
    """The unchanged models of candle-transformers."""

    def __init__(self, name, program, threads):
        self.name, self.program, self.threads = name, program, threads

    def version(self):
        return "candle-transformers 0.11.1"

    def sample(self, setting, new, timeout):
        command = [
            self.program, "--model", setting["file"], "--format", setting["format"], "--prompt", str(setting["prompt"]), "--new", str(new),
            "--repeats", "1", "--warmup", "1", "--threads", str(self.threads),
        ]
        out, contention = observed(command, timeout)
        line = json.loads(out)
        return {phase: statistics.median(line[f"{phase}_tok_per_s"]) for phase in PHASES}, contention


class LlamaBench:
    """llama.cpp's own benchmark: prompt processing, and generation after a context of that length."""

    name = "llama.cpp"

    def __init__(self, program, threads):
        self.program, self.threads = program, threads

    def version(self):
        beside = pathlib.Path(self.program).with_name("llama-server")
        if not beside.exists():
            return "unknown"
        done = subprocess.run([beside, "--version"], capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr).strip().splitlines()[0]

    def sample(self, setting, new, timeout):
        common = [self.program, "-m", setting["file"], "-t", str(self.threads), "-r", "1", "-o", "json"]
        prompt = str(setting["prompt"])
        prefill, first = observed([*common, "-p", prompt, "-n", "0"], timeout)
        decode, second = observed([*common, "-p", "0", "-n", str(new), "-d", prompt], timeout)
        worst = first if first["other_cpu_share"] >= second["other_cpu_share"] else second
        rates = [json.loads(out)[0]["avg_ts"] for out in (prefill, decode)]
        return dict(zip(PHASES, rates)), worst


def engines(args):
    """The engines that are there, and a line for each that is not."""
    wanted = [
        ("perfprof", "PERFPROF", str(ROOT / "target/release/perfprof"), lambda p: Perfprof(p, args.threads)),
        ("stock candle", "PERFPROF_STOCK_CANDLE", None, lambda p: StockCandle("stock candle", p, args.threads)),
        ("stock candle (native)", "PERFPROF_STOCK_CANDLE_NATIVE", None, lambda p: StockCandle("stock candle (native)", p, args.threads)),
        ("llama.cpp", "PERFPROF_LLAMA_BENCH", None, lambda p: LlamaBench(p, args.threads)),
    ]
    present, absent = [], {}
    for name, variable, default, make in wanted:
        program = os.environ.get(variable) or default
        if program is None:
            absent[name] = f"{variable} is not set"
        elif shutil.which(program) is None:
            absent[name] = f"{variable}: `{pathlib.Path(program).name}` is not there or not executable"
        else:
            present.append(make(shutil.which(program)))
    return present, absent


def weight_files(args):
    """Format → GGUF file. Each engine reads the same one; without llama-quantize each converts the base file on load."""
    files = {"q4_1": args.model}
    bench = os.environ.get("PERFPROF_LLAMA_BENCH")
    quantize = pathlib.Path(shutil.which(bench)).with_name("llama-quantize") if bench and shutil.which(bench) else None
    for name in FORMATS[1:]:
        target = args.work / f"{args.model.stem.rsplit('.', 1)[0]}.{name.upper()}.gguf"
        if name in args.formats and not target.exists() and quantize and quantize.exists():
            args.work.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".partial")
            subprocess.run([quantize, "--allow-requantize", args.model, partial, name.upper()], check=True, capture_output=True)
            partial.rename(target)
        files[name] = target if target.exists() else args.model
    return files


def bootstrap_median(values, rng, draws=10_000):
    """95 % percentile interval of the median; None below three values."""
    if len(values) < 3:
        return None
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(draws))
    return [medians[int(0.025 * draws)], medians[int(0.975 * draws) - 1]]


def summarise(samples, names, args):
    """Rows of the table: per format, context, phase and engine the median, and perfprof's ratio to it."""
    rng = random.Random(args.seed)
    rows = []
    for weight_format in args.formats:
        for prompt in args.prompts:
            for phase in PHASES:
                by_engine = {}
                for sample in samples:
                    if sample["format"] == weight_format and sample["prompt"] == prompt and sample["error"] is None:
                        by_engine.setdefault(sample["engine"], {})[sample["round"]] = sample[f"{phase}_tok_per_s"]
                for name in names:
                    rounds = by_engine.get(name, {})
                    own = by_engine.get("perfprof", {})
                    ratios = [own[r] / rounds[r] for r in sorted(rounds) if r in own and rounds[r] > 0] if name != "perfprof" else []
                    rows.append({
                        "format": weight_format, "prompt": prompt, "phase": phase, "engine": name, "n": len(rounds),
                        "tok_per_s_median": statistics.median(rounds.values()) if rounds else None,
                        "tok_per_s_min": min(rounds.values(), default=None), "tok_per_s_max": max(rounds.values(), default=None),
                        "ratio_n": len(ratios),
                        "perfprof_ratio_median": statistics.median(ratios) if ratios else None,
                        "perfprof_ratio_ci95": bootstrap_median(ratios, rng),
                    })
    return rows


def machine():
    """What the samples were taken on."""
    cpu = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), None)
    system = next((line.split("=", 1)[1].strip('"') for line in pathlib.Path("/etc/os-release").read_text().splitlines() if line.startswith("PRETTY_NAME")), None)
    return {"cpu": cpu, "logical_cpus": os.cpu_count(), "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "os": system, "kernel": platform.release()}


def markdown(document):
    """The table for people."""
    made, settings = document["machine"], document["settings"]
    samples = document["samples"]
    good = [sample for sample in samples if sample["error"] is None]
    disturbed = [sample for sample in good if sample["contention"]["other_cpu_share"] > DISTURBED_SHARE]

    def number(value):
        return "–" if value is None else f"{value:.1f}"

    lines = [
        "# The CPU engine beside its peers", "",
        f"Made by `scripts/side-by-side.py` on {document['date']}: {made['cpu']}, {made['logical_cpus']} logical CPUs, "
        f"{made['memory_gib']} GiB, {made['os']}, {settings['threads']} threads, {settings['rounds']} interleaved rounds, seed {settings['seed']}.", "",
        f"Model: `{settings['model']}`. Prefill of 128 means a prompt of 128 tokens; decode at 128 means {settings['new']} tokens after it. "
        "Values are tokens per second, median of the rounds with their range. The ratio is perfprof's rate divided by the peer's in the same "
        "round: median and 95 % bootstrap interval over the rounds (none below three).", "",
        f"Other processes took more than {DISTURBED_SHARE:.0%} of the machine during {len(disturbed)} of {len(good)} samples"
        + (f" (at most {max(s['contention']['other_cpu_share'] for s in disturbed):.0%})." if disturbed else "."), "",
        "| engine | version |", "|---|---|",
        *(f"| {name} | {version} |" for name, version in document["engines"].items()),
        *(f"| {name} | not run: {reason} |" for name, reason in document["absent"].items()), "",
        "| weights | context | phase | engine | tok/s | range | n | perfprof / engine | 95 % interval |", "|---|---:|---|---|---:|---|---:|---:|---|",
    ]
    for row in document["summary"]:
        ratio, interval = row["perfprof_ratio_median"], row["perfprof_ratio_ci95"]
        lines.append(
            f"| {row['format']} | {row['prompt']} | {row['phase']} | {row['engine']} | {number(row['tok_per_s_median'])} "
            f"| {number(row['tok_per_s_min']) + '–' + number(row['tok_per_s_max']) if row['n'] else ''} | {row['n']} | {'' if ratio is None else f'{ratio:.2f}×'} "
            f"| {'' if interval is None else f'{interval[0]:.2f}–{interval[1]:.2f}'} |")
    failed = [sample for sample in samples if sample["error"] is not None]
    if failed:
        lines += ["", f"{len(failed)} samples failed:", ""]
        lines += [f"- {s['engine']}, {s['format']}, {s['prompt']}, round {s['round']}: {s['error'].replace('|', '/')}" for s in failed]
    return "\n".join(lines) + "\n"


def write(path, text):
    """Writes under the final name only what is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def arguments():
    """The command line."""
    def counts(text):
        values = [int(word) for word in text.split(",")]
        if not values or min(values) < 1:
            raise argparse.ArgumentTypeError("counts from 1, separated by commas")
        return values

    def formats(text):
        names = text.split(",")
        if unknown := [name for name in names if name not in FORMATS]:
            raise argparse.ArgumentTypeError(f"`{unknown[0]}` is none of {', '.join(FORMATS)}")
        return names

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", help="the Q4_1 GGUF file")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "models/smollm2", help="where the files of the other formats are or are made")
    parser.add_argument("--formats", type=formats, default=list(FORMATS), help="default: q4_1,q8_0,f32,bf16")
    parser.add_argument("--prompts", type=counts, default=[128, 512], help="prompt lengths = contexts of decode; default: 128,512")
    parser.add_argument("--new", type=int, default=64, help="decode steps; default: 64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one sample")
    parser.add_argument("--retries", type=int, default=2, help="further attempts at a disturbed sample; default: 2")
    parser.add_argument("--wait-quiet", type=float, default=0, metavar="S", help="before each sample, wait up to S seconds for a quiet machine")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/results/engine-cpu", help="writes OUT.json and OUT.md")
    return parser.parse_args()


def main():
    """Samples, round by round, and writes the results after each."""
    args = arguments()
    if not args.model.exists():
        sys.exit(f"error: `{args.model}` is not there\n\nhint: run scripts/fetch-model.sh smollm2")
    present, absent = engines(args)
    if not present:
        sys.exit("error: no engine found\n" + "".join(f"  {name}: {reason}\n" for name, reason in absent.items()))
    files = weight_files(args)
    for name in args.formats:
        print(f"{name}: {files[name].name}", file=sys.stderr)
    for name, reason in absent.items():
        print(f"{name}: not run, {reason}", file=sys.stderr)

    cells = [(engine, weight_format, prompt) for engine in present for weight_format in args.formats for prompt in args.prompts]
    rng = random.Random(args.seed)
    document = {
        "schema_version": SCHEMA_VERSION, "made_by": "scripts/side-by-side.py", "date": datetime.date.today().isoformat(), "machine": machine(),
        "settings": {"model": args.model.name, "files": {name: files[name].name for name in args.formats}, "formats": args.formats,
                     "prompts": args.prompts, "new": args.new, "rounds": args.rounds, "threads": args.threads, "seed": args.seed,
                     "stage1_args": os.environ.get("PERFPROF_STAGE1_ARGS", "")},
        "engines": {engine.name: engine.version() for engine in present}, "absent": absent, "samples": [],
    }
    for round_number in range(1, args.rounds + 1):
        rng.shuffle(cells)
        for engine, weight_format, prompt in cells:
            sample = {"round": round_number, "engine": engine.name, "format": weight_format, "prompt": prompt,
                      "prefill_tok_per_s": None, "decode_tok_per_s": None, "contention": None, "attempts": 1, "error": None}
            try:
                setting = {"file": str(files[weight_format].resolve()), "format": weight_format, "prompt": prompt}
                values, sample["contention"], sample["attempts"] = least_disturbed(engine, setting, args)
                sample.update({f"{phase}_tok_per_s": round(values[phase], 3) for phase in PHASES})
                said = f"prefill {values['prefill']:.1f}, decode {values['decode']:.1f} tok/s"
            except (Failed, KeyError, ValueError) as error:
                sample["error"] = said = str(error) or type(error).__name__
            document["samples"].append(sample)
            print(f"round {round_number}/{args.rounds} {engine.name} {weight_format} {prompt}: {said}", file=sys.stderr)
        document["summary"] = summarise(document["samples"], list(document["engines"]), args)
        write(args.out.with_name(args.out.name + ".json"), json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        write(args.out.with_name(args.out.name + ".md"), markdown(document))
    print(markdown(document), end="")
    if not any(sample["error"] is None for sample in document["samples"]):
        sys.exit("error: no sample succeeded")


if __name__ == "__main__":
    main()
