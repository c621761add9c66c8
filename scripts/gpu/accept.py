#!/usr/bin/env python3
"""The acceptance of perfprof on a GPU: steps, verdicts, one table. Run through accept.sh, which finds the binary and the libraries.

Every step calls a program and judges what it wrote; the judgement is a function of that alone, so that it is tested without a GPU. A step that
could not run says so and is not a PASS.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL = "synthetic-llama-3-8b"
SMALL = "synthetic-qwen2.5-0.5b"
PASS, FAIL, NOT_RUN, INFO = "PASS", "FAIL", "NOT RUN", "INFO"


class Line:
    """One line of the table."""

    def __init__(self, step, what, verdict, detail, **values):
        self.step, self.what, self.verdict, self.detail, self.values = step, what, verdict, detail, values

    def row(self):
        return {"step": self.step, "what": self.what, "verdict": self.verdict, "detail": self.detail, **self.values}


def check(step, what, ok, detail, **values):
    return Line(step, what, PASS if ok else FAIL, detail, **values)


def missing(step, what, reason):
    return Line(step, what, NOT_RUN, reason)


def median(metrics, name):
    """Median of a measure of a stage1 run; None where it is unknown."""
    measure = (metrics.get("measures") or {}).get(name) or {}
    return measure.get("p50")


def ratio_detail(value, unit=""):
    return "unknown" if value is None else f"{value:.4g}{unit}"


# ---- judgements -------------------------------------------------------------------------------------------------------


def judge_kernels(step, answer):
    """`kernels check --json`: every case within its tolerance."""
    results = answer.get("results") or []
    failed = [result for result in results if not result["ok"]]
    detail = f"{len(results) - len(failed)} of {len(results)} cases, seed {answer.get('seed')}"
    if failed:
        worst = failed[0]
        detail += f"; first: {worst['kernel']} {worst['case']}: error {worst['max_error']}, allowed {worst['tolerance']}"
    return [check(step, f"every kernel against its f64 reference, {answer.get('dtype')}", bool(results) and not failed, detail)]


def judge_quality(step, metrics, limit=0.01):
    """Predictions on the device against the same weights in f32 on the CPU."""
    quality = metrics.get("quality") or {}
    kl, top1, error = quality.get("kl_mean_nats"), quality.get("top1_agreement"), quality.get("error")
    ok = kl is not None and kl <= limit and top1 is not None and top1 >= 0.9 and not error
    detail = f"KL {ratio_detail(kl, ' nats')} (allowed {limit}), same first choice {ratio_detail(top1)}" + (f"; {error}" if error else "")
    return [check(step, "logits on the device against the CPU in f32", ok, detail, kl_mean_nats=kl, top1_agreement=top1)]


def judge_timing(step, metrics):
    """E05: the phases add up by both clocks."""
    parts = metrics.get("reconciliation") or {}
    phases, clocks = parts.get("phases_vs_total"), parts.get("host_vs_device")
    lines = [
        check(step, "prefill + decode + remainder = total, by events", phases is not None and phases <= 0.01,
              f"misses by {ratio_detail(phases)} (allowed 0.01)"),
        check(step, "total by events = total by the synchronised host", clocks is not None and clocks <= 0.01,
              f"misses by {ratio_detail(clocks)} (allowed 0.01)"),
    ]
    remainder, total = median(metrics, "remainder_ms"), median(metrics, "total_ms")
    if remainder is not None and total:
        lines.append(check(step, "the remainder is small", remainder / total <= 0.05, f"{remainder / total:.2%} of the total"))
    return lines


def judge_energy(step, metrics):
    """Energy of a repeat is there, and is a power a GPU can draw."""
    joules, total = median(metrics, "energy_j"), median(metrics, "total_ms")
    if joules is None or not total:
        return [check(step, "energy of each repeat by NVML", False, "unknown")]
    watts = joules / (total * 1e-3)
    return [check(step, "energy of each repeat by NVML", 30 < watts < 1200, f"{joules:.1f} J a repeat, {watts:.0f} W on average")]


def judge_trace(step, metrics, analysis):
    """Our own tracer: every launch has its kernel, nothing dropped, and the device was as busy as the events say."""
    coverage = analysis.get("coverage") or {}
    launches, linked = coverage.get("launches"), coverage.get("linked_kernels")
    kernels = coverage.get("kernels")
    lines = [
        check(step, "every kernel is linked to its launch", bool(kernels) and linked == kernels, f"{linked} of {kernels} kernels, {launches} launches"),
    ]
    codes = {finding.get("code") for finding in metrics.get("diagnostics") or []}
    lines.append(check(step, "the tracer dropped nothing", "trace_records_dropped" not in codes, ", ".join(sorted(c for c in codes if c)) or "no findings"))
    tax = (metrics.get("measures") or {}).get("tracer_overhead_ratio") or {}
    value = tax.get("p50")
    lines.append(Line(step, "what the tracer costs a token", INFO if value is not None else NOT_RUN, ratio_detail(value), tax=value))
    return lines


def judge_torch(step, answer):
    """The kernel summary of a torch.profiler trace against the profiler's own sums."""
    lines = []
    for name, ours, theirs in (("kernels", answer.get("ours_kernels"), answer.get("torch_kernels")),
                               ("device time of kernels, us", answer.get("ours_us"), answer.get("torch_us"))):
        ok = ours is not None and theirs not in (None, 0) and abs(ours - theirs) <= max(1e-6, 1e-3 * abs(theirs))
        lines.append(check(step, f"analyze agrees with torch.profiler: {name}", ok, f"{ours} against {theirs}"))
    return lines


def judge_ncu(step, metrics):
    """Kernels under ncu through stage2: without nsys, as where this runs there is none that works."""
    kernels = metrics.get("kernels") or []
    outcomes = sorted({str(kernel.get("outcome")) for kernel in kernels})
    if outcomes == ["no_permission"]:
        return [missing(step, "stage2 profiles kernels under ncu", "the driver keeps the counters for root")]
    good = [kernel for kernel in kernels if kernel.get("outcome") == "ok" and kernel.get("counters")]
    detail = f"{len(good)} of {len(kernels)} kernels have counters ({', '.join(outcomes) or 'none was tried'})"
    return [check(step, "stage2 profiles kernels under ncu", bool(kernels) and len(good) == len(kernels), detail)]


def judge_study(step, runs, peers):
    """The goals of the study: bandwidth of decode, arithmetic of prefill, distance to transformers."""
    lines = []
    for label, metrics in runs.items():
        tpot, prefill = median(metrics, "tpot_ms"), median(metrics, "prefill_ms")
        values = {name: median(metrics, name) for name in ("tpot_ms", "decode_ms", "prefill_ms", "ttft_ms", "mfu_prefill", "mbu_decode")}
        lines.append(Line(step, f"{label}: time per token, prefill", INFO if tpot else NOT_RUN,
                          f"TPOT {ratio_detail(tpot, ' ms')}, prefill {ratio_detail(prefill, ' ms')}, "
                          f"MBU {ratio_detail(values['mbu_decode'])}, MFU {ratio_detail(values['mfu_prefill'])}", **values))
    best = runs.get("fused_graph")
    if not best:
        lines.append(missing(step, "goals of the study", "the variant `fused_graph` has no run"))
        return lines
    share = decode_share_of_copy(best)
    lines.append(check(step, "decode streams at ≥ 85 % of the copy bandwidth measured in the run", share is not None and share >= 0.85,
                       ratio_detail(share), share=share))
    mfu = median(best, "mfu_prefill")
    lines.append(check(step, "prefill reaches ≥ 60 % MFU", mfu is not None and mfu >= 0.60, ratio_detail(mfu), mfu=mfu))
    tpot = median(best, "tpot_ms")
    for peer in peers:
        theirs = peer.get("tpot_ms")
        if theirs is None or not tpot:
            lines.append(missing(step, f"against transformers, {peer.get('name')}", peer.get("error") or "no time"))
            continue
        ratio = theirs / tpot
        goal = peer.get("name") == "eager"
        line = f"{theirs:.3f} ms a token, ours {tpot:.3f} ms: {ratio:.2f} times as long; prefill {ratio_detail(peer.get('prefill_ms'), ' ms')}"
        lines.append(check(step, "at least 3 times as fast as transformers, eager", ratio >= 3, line, ratio=ratio) if goal
                     else Line(step, f"against transformers, {peer.get('name')}", INFO, line, ratio=ratio))
    return lines


def decode_share_of_copy(metrics):
    """Bytes a decode step must move per second of device time, over the copy bandwidth measured in the same run; None if one is unknown."""
    copy = ((metrics.get("hardware") or {}).get("measured") or {}).get("copy_bytes_per_s") or {}
    for phase in metrics.get("phases") or []:
        if phase.get("phase") == "decode" and phase.get("time_ms") and copy.get("value"):
            moved = phase["weight_bytes"] + phase["kv_bytes"] + phase["activation_bytes"]
            return moved / (phase["time_ms"] * 1e-3) / copy["value"]
    return None


def judge_sanitizer(step, tool, returncode, output):
    errors = [line for line in output.splitlines() if "ERROR SUMMARY" in line or "RACECHECK SUMMARY" in line]
    clean = returncode == 0 and bool(errors) and all(" 0 errors" in line or "0 hazards" in line for line in errors)
    return [check(step, f"compute-sanitizer {tool} finds nothing in the kernels", clean, errors[0].strip("= ") if errors else f"exit {returncode}")]


# ---- steps ------------------------------------------------------------------------------------------------------------


class Acceptance:
    def __init__(self, options):
        self.perfprof = str(Path(options.perfprof).resolve())
        self.out = Path(options.out).resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.deadline = time.monotonic() + options.seconds
        self.lines, self.raw = [], {}

    def left(self):
        return self.deadline - time.monotonic()

    def call(self, name, argv, limit):
        """Runs a program; its output goes to a log beside the table."""
        limit = min(limit, max(1.0, self.left()))
        log = self.out / f"{name}.log"
        started = time.monotonic()
        try:
            done = subprocess.run(argv, cwd=self.out, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=limit, text=True, errors="replace")
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as late:
            text = lambda data: (data or b"").decode(errors="replace") if isinstance(data, bytes) else (data or "")
            code, out, err = 124, text(late.stdout), text(late.stderr) + f"\nstopped after {limit:.0f} s"
        except OSError as error:
            code, out, err = 127, "", str(error)
        seconds = time.monotonic() - started
        log.write_text(f"$ {' '.join(argv)}\n{out}\n{err}\nexit {code} after {seconds:.1f} s\n")
        return code, out, err

    def json_of(self, name, argv, limit, step, what, codes=(0,)):
        """The JSON a program prints; a line of the table and None where there is none."""
        code, out, err = self.call(name, argv, limit)
        last = next((line for line in reversed(err.strip().splitlines()) if line.strip()), "")
        if code in codes:
            try:
                value = json.loads(out)
                self.raw[name] = value
                return value
            except json.JSONDecodeError as error:
                last = f"no JSON: {error}"
        self.lines.append(Line(step, what, NOT_RUN if code == 124 else FAIL, f"exit {code}: {last}"[:300]))
        return None

    def stage1(self, name, arguments, limit, step, what):
        argv = [self.perfprof, "--json", "--quiet", "--output-root", str(self.out / "runs"), "stage1", "device=cuda:0", *arguments]
        # An INVALID run still has numbers, and says why.
        return self.json_of(name, argv, limit, step, what, codes=(0, 3))

    # -- each step

    def step_device(self):
        answer = self.json_of("doctor", [self.perfprof, "doctor", "--json"], 30, "device", "perfprof doctor")
        self.call("nvidia-smi", ["nvidia-smi"], 20)
        code, out, _ = self.call("nvidia-smi-query", ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit,persistence_mode",
                                                      "--format=csv,noheader"], 20)
        self.lines.append(check("device", "a GPU is there", code == 0 and bool(out.strip()), out.strip().splitlines()[0] if out.strip() else "nvidia-smi failed"))
        return answer

    def step_kernels(self):
        for dtype, limit in (("bf16", 100), ("f16", 60)):
            answer = self.json_of(f"kernels-{dtype}", [self.perfprof, "--json", "kernels", "check", "--dtype", dtype], limit,
                                  "kernels", f"kernels check, {dtype}", codes=(0, 3))
            if answer:
                self.lines += judge_kernels("kernels", answer)

    def step_logits(self):
        for ops in (["engine.ops=fused"], ["engine.ops=fused", "engine.cuda_graph=on"], ["engine.ops=reference"]):
            name = "logits-" + "-".join(part.split("=")[1] for part in ops)
            metrics = self.stage1(name, [f"model={SMALL}", "model.dtype=bf16", "prompt_tokens=64", "infer.max_new_tokens=16", "repeats=2",
                                         "quality=embedded", "quality.tokens=128", *ops], 60, "logits", " ".join(ops))
            if metrics:
                self.lines += [Line(line.step, f"{' '.join(ops)}: {line.what}", line.verdict, line.detail, **line.values)
                               for line in judge_quality("logits", metrics)]

    def step_study(self):
        runs = {}
        shared = [f"model={MODEL}", "prompt_tokens=2048", "infer.max_new_tokens=128", "repeats=5", "warmup=2", "hardware.measure=always",
                  "profiling.span_repeats=1"]
        variants = {"reference": ["engine.ops=reference"], "fused": ["engine.ops=fused"], "fused_graph": ["engine.ops=fused", "engine.cuda_graph=on"]}
        for label in ("fused_graph", "fused", "reference"):
            metrics = self.stage1(f"study-{label}", shared + variants[label], 110, "study", label)
            if metrics:
                runs[label] = metrics
        peers = self.peers()
        self.lines += judge_study("study", runs, peers)
        best = runs.get("fused_graph")
        if best:
            self.lines += judge_timing("timing", best)
            self.lines += judge_energy("energy", best)
        if len(runs) >= 2:
            directories = [metrics["run_dir"] for metrics in runs.values()]
            self.call("compare", [self.perfprof, "--output-root", str(self.out / "runs"), "compare", *directories], 40)

    def peers(self):
        if shutil.which(sys.executable) is None or self.left() < 40:
            return [{"name": "eager", "error": "out of time"}]
        code, out, err = self.call("transformers", [sys.executable, str(HERE / "transformers_peer.py"), "--prompt", "2048", "--tokens", "128"], 140)
        found = []
        for text in out.splitlines():
            if text.startswith("{"):
                found.append(json.loads(text))
        self.raw["transformers"] = found
        return found or [{"name": "eager", "error": (err.strip().splitlines() or [f"exit {code}"])[-1]}]

    def step_ab(self):
        self.call("ab", [self.perfprof, "--output-root", str(self.out / "runs"), "ab", "--in-process", f"model={SMALL}", "model.dtype=bf16", "device=cuda:0",
                         "prompt_tokens=256", "infer.max_new_tokens=64", "blocks=8", "reference=engine.ops=reference", "fused=engine.ops=fused",
                         "graph=engine.ops=fused,engine.cuda_graph=on"], 60)

    def step_trace(self):
        metrics = self.stage1("trace", [f"model={SMALL}", "model.dtype=bf16", "prompt_tokens=128", "infer.max_new_tokens=32", "repeats=4", "trace=cupti",
                                        "engine.ops=fused"], 60, "trace", "stage1 trace=cupti")
        if not metrics:
            return
        trace = Path(metrics["run_dir"]) / "trace.sqlite"
        analysis = self.json_of("trace-analyze", [self.perfprof, "--json", "--output-root", str(self.out / "runs"), "analyze", str(trace)], 60, "trace",
                                "analyze of our own trace", codes=(0, 3))
        if analysis:
            self.lines += judge_trace("trace", metrics, analysis)

    def step_torch(self):
        answer = self.json_of("torch", [sys.executable, str(HERE / "torch_check.py"), "--perfprof", self.perfprof, "--out", str(self.out / "torch")], 90,
                              "torch", "a program under torch.profiler")
        if answer:
            self.lines += judge_torch("torch", answer)

    def step_ncu(self):
        if not shutil.which("ncu"):
            self.lines.append(missing("ncu", "stage2 profiles kernels under ncu", "ncu is not there"))
            return
        argv = [self.perfprof, "--json", "--quiet", "--output-root", str(self.out / "runs"), "stage2", f"model={SMALL}", "model.dtype=bf16", "device=cuda:0",
                "engine.ops=fused", "prompt_tokens=64", "infer.max_new_tokens=4", "repeats=1", "warmup=1", "stage2.nsys.enabled=false", "stage2.ncu.top_n=2"]
        metrics = self.json_of("stage2-ncu", argv, 70, "ncu", "stage2 profiles kernels under ncu", codes=(0, 3))
        if metrics:
            self.lines += judge_ncu("ncu", metrics)

    def step_bench(self):
        answer = self.json_of("bench", [self.perfprof, "--json", "kernels", "bench"], 60, "bench", "kernels bench")
        if answer:
            copy = ((answer.get("ceilings") or {}).get("copy_bytes_per_s") or {}).get("value")
            for result in answer["results"]:
                share = result["bytes_per_s"] / copy if copy else None
                self.lines.append(Line("bench", f"{result['kernel']} {result['case']}", INFO,
                                       f"{result['median_us']:.1f} us, {ratio_detail(share)} of copy, {result['flops_per_s'] / 1e12:.1f} TFLOP/s"))

    def step_sanitizer(self):
        tool = shutil.which("compute-sanitizer")
        if not tool:
            self.lines.append(missing("sanitizer", "compute-sanitizer on the kernels", "compute-sanitizer is not there"))
            return
        for name in ("memcheck", "racecheck"):
            if self.left() < 15:
                self.lines.append(missing("sanitizer", name, "out of time"))
                continue
            code, out, err = self.call(f"sanitizer-{name}", [tool, "--tool", name, self.perfprof, "kernels", "check", "--small", "--dtype", "bf16"], 60)
            self.lines += judge_sanitizer("sanitizer", name, code, out + err)

    def write(self):
        table = ["| step | what | verdict | detail |", "|---|---|---|---|"]
        for line in self.lines:
            detail = str(line.detail).replace("|", "\\|")
            table.append(f"| {line.step} | {line.what} | {line.verdict} | {detail} |")
        counts = {verdict: sum(line.verdict == verdict for line in self.lines) for verdict in (PASS, FAIL, NOT_RUN)}
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        head = f"# Acceptance on a GPU, {when}\n\n{counts[PASS]} passed, {counts[FAIL]} failed, {counts[NOT_RUN]} not run.\n\n"
        (self.out / "accept.md").write_text(head + "\n".join(table) + "\n")
        answer = {"when": when, "counts": counts, "lines": [line.row() for line in self.lines], "raw": self.raw}
        (self.out / "accept.json").write_text(json.dumps(answer, indent=1) + "\n")
        return counts


STEPS = ["device", "kernels", "logits", "study", "trace", "torch", "ncu", "bench", "sanitizer", "ab"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--perfprof", required=True, help="the binary")
    parser.add_argument("--out", default=os.environ.get("OUT", "accept"), help="where table, JSON and logs go (default: $OUT, else accept)")
    parser.add_argument("--seconds", type=float, default=470, help="time for everything; what does not fit is NOT RUN (default: 470)")
    parser.add_argument("--only", default="", help="steps to run, with commas")
    parser.add_argument("--skip", default="", help="steps to leave out, with commas")
    parser.add_argument("--list", action="store_true", help="print the steps")
    options = parser.parse_args()
    if options.list:
        print("\n".join(STEPS))
        return 0
    only = [name for name in options.only.split(",") if name] or STEPS
    unknown = [name for name in only + options.skip.split(",") if name and name not in STEPS]
    if unknown:
        parser.error(f"no step is called {unknown[0]!r}; --list shows them")
    acceptance = Acceptance(options)
    for name in STEPS:
        if name not in only or name in options.skip.split(","):
            continue
        before = len(acceptance.lines)
        if acceptance.left() < 5:
            acceptance.lines.append(missing(name, "the whole step", "out of time"))
        else:
            try:
                getattr(acceptance, f"step_{name}")()
            except Exception as error:  # noqa: BLE001 - one step must not take the others with it
                acceptance.lines.append(Line(name, "the step", FAIL, f"{type(error).__name__}: {error}"))
        for line in acceptance.lines[before:]:
            print(f"{line.verdict:<8} {line.step:<10} {line.what}: {line.detail}", flush=True)
        # What was finished must survive whatever ends the machine.
        acceptance.write()
    counts = acceptance.write()
    print(f"\n{counts[PASS]} passed, {counts[FAIL]} failed, {counts[NOT_RUN]} not run; {acceptance.out / 'accept.md'}")
    return 0 if counts[FAIL] == 0 and counts[NOT_RUN] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
