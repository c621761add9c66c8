#!/usr/bin/env python3
"""Runs perfprof and its peers over the same trace files in interleaved rounds and writes docs/results/trace-speed.{json,md}.

Figures are CPU seconds (user + system) and peak resident memory of the whole process, from wait4: on a shared machine wall time says little. Every
round runs each tool once on each file, in an order drawn anew from a seed. Ratios are peer / perfprof within a round (above 1: perfprof
is cheaper), reported as their median with smallest and largest.

The files come from generators outside of this repository (--generators, default $PERFPROF_SHARED/bench or ../shared/bench) and are kept in --work.
Tools are found through the environment; one that is not there is a line in the table:
  PERFPROF            perfprof, release build (default: target/release/perfprof)
  PERFPROF_PEER_PYTHON  a Python with pandas, orjson, HolisticTraceAnalysis and nsys-ai, as far as wanted (default: python3)
  PERFPROF_TRACELENS  a checkout of TraceLens, run with that Python
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCHEMA_VERSION = 1

KERNEL_SCAN = "SELECT count(*), sum(start), sum(end), sum(demangledName), sum(shortName), sum(mangledName), sum(streamId), sum(deviceId), sum(contextId), sum(correlationId), sum(globalPid) FROM CUPTI_ACTIVITY_KIND_KERNEL"
ALL_SCAN = (
    "SELECT count(*), sum(start), sum(end), sum(demangledName), sum(shortName), sum(mangledName), sum(streamId), sum(deviceId), sum(contextId), sum(correlationId), sum(globalPid), sum(gridX), sum(gridY), sum(gridZ), sum(blockX), sum(blockY), sum(blockZ), sum(registersPerThread), sum(staticSharedMemory), sum(dynamicSharedMemory), sum(localMemoryPerThread), sum(graphNodeId) FROM CUPTI_ACTIVITY_KIND_KERNEL;"
    "SELECT count(*), sum(start), sum(end), sum(eventClass), sum(globalTid), sum(correlationId), sum(nameId), sum(returnValue) FROM CUPTI_ACTIVITY_KIND_RUNTIME;"
    "SELECT count(*), sum(start), sum(end), sum(eventType), sum(length(text)), sum(globalTid), sum(textId), sum(domainId), sum(endGlobalTid) FROM NVTX_EVENTS"
)
KERN_SUM_SQL = "SELECT s.value, count(*), sum(k.end - k.start), avg(k.end - k.start), min(k.end - k.start), max(k.end - k.start) FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN StringIds s ON s.id = k.demangledName GROUP BY k.demangledName ORDER BY 3 DESC"

# Written for this comparison from the published definition of the report (sample standard deviation and median as aggregates).
PY_KERN_SUM = '''
import sqlite3, statistics, sys
class Median:
    def __init__(self): self.v = []
    def step(self, x): self.v.append(x)
    def finalize(self): return statistics.median(self.v)
class Stdev(Median):
    def finalize(self):
        n = len(self.v)
        if n < 2: return 0.0
        m = sum(self.v) / n
        return (sum((x - m) ** 2 for x in self.v) / (n - 1)) ** 0.5
db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
db.create_aggregate("median", 1, Median); db.create_aggregate("stdev", 1, Stdev)
for row in db.execute("SELECT s.value, count(*), sum(d), avg(d), median(d), min(d), max(d), stdev(d) FROM (SELECT demangledName AS n, end - start AS d FROM CUPTI_ACTIVITY_KIND_KERNEL) JOIN StringIds s ON s.id = n GROUP BY n ORDER BY 3 DESC"):
    print(row[1:], row[0][:60])
'''
PANDAS = '''
import sqlite3, sys
import pandas as pd
db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
k = pd.read_sql("SELECT k.start, k.end, s.value AS name FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN StringIds s ON s.id = k.demangledName", db)
k["d"] = k.end - k.start
print(k.groupby("name").d.describe(percentiles=[.5, .95, .99]).sort_values("count"))
'''
JSON_SUM = '''
import collections, json, sys
total = collections.Counter()
for e in json.load(open(sys.argv[1]))["traceEvents"]:
    if e.get("cat") == "kernel": total[e["name"]] += e["dur"]
print(total.most_common(5))
'''
ORJSON_SUM = JSON_SUM.replace("import collections, json, sys", "import collections, sys\nimport orjson").replace("json.load(open(sys.argv[1]))", "orjson.loads(open(sys.argv[1], 'rb').read())")
HTA = '''
import os, shutil, sys, tempfile
from hta.trace_analysis import TraceAnalysis
d = tempfile.mkdtemp()
try:
    os.link(sys.argv[1], d + "/rank0.json")
except OSError:
    shutil.copy(sys.argv[1], d + "/rank0.json")
t = TraceAnalysis(trace_dir=d)
print(t.get_gpu_kernel_breakdown(visualize=False)[0])
print(t.get_idle_time_breakdown(visualize=False)[0])
shutil.rmtree(d)
'''


def usage_of(command, timeout, env=None):
    """CPU seconds, wall seconds, peak RSS in MB, output tail of one run; None for the figures if it failed or took too long."""
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, start_new_session=True)
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - began > timeout:
                os.killpg(child.pid, 9)
                os.wait4(child.pid, 0)
                return {"error": f"stopped after {timeout} s of wall time"}
            time.sleep(0.01)
        out.seek(0, 2)
        size = out.tell()
        out.seek(max(0, size - 2000))
        tail = out.read().decode(errors="replace")
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 3):
        return {"error": f"exit {child.returncode}: {tail.strip().splitlines()[-1] if tail.strip() else ''}"}
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "wall_s": time.monotonic() - began, "rss_mb": usage.ru_maxrss / 1024}


def has_module(python, module):
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0


def tools(args, python, perfprof, work):
    """(name, kind of file, largest size in million rows, command from file)"""
    out = str(work / "runs")
    found = [
        ("perfprof cuda_gpu_kern_sum", "nsys", 99, lambda f: [perfprof, "-q", "analyze", "--nsys-report", "cuda_gpu_kern_sum", f]),
        ("perfprof analyze", "nsys", 99, lambda f: [perfprof, "-q", "--output-root", out, "analyze", f]),
        ("perfprof analyze", "kineto", 99, lambda f: [perfprof, "-q", "--output-root", out, "analyze", f]),
    ]
    sqlite = shutil.which("sqlite3")
    if sqlite:
        for name, sql in (("sqlite3: scan of the kernel columns", KERNEL_SCAN), ("sqlite3: scan of all columns read", ALL_SCAN), ("sqlite3: GROUP BY kernel, no median", KERN_SUM_SQL)):
            found.append((name, "nsys", 99, lambda f, sql=sql: [sqlite, "-readonly", f, sql]))
    found.append(("Python kern_sum (median, stdev)", "nsys", 5, lambda f: [python, "-c", PY_KERN_SUM, f]))
    if has_module(python, "pandas"):
        found.append(("pandas groupby describe", "nsys", 5, lambda f: [python, "-c", PANDAS, f]))
    ai = pathlib.Path(python).parent / "nsys-ai"
    if ai.exists():
        # It writes indexes into the file it is given, so it gets a copy.
        def on_copy(f, *words):
            copy = work / (pathlib.Path(f).stem + "_nsysai.sqlite")
            if not copy.exists():
                shutil.copy(f, copy)
            return [str(ai), words[0], *( [words[1], words[2]] if len(words) > 2 else [] ), str(copy), *words[3:]]
        found.append(("nsys-ai top_kernels", "nsys", 1, lambda f: on_copy(f, "skill", "run", "top_kernels")))
        found.append(("nsys-ai gpu_idle_gaps", "nsys", 1, lambda f: on_copy(f, "skill", "run", "gpu_idle_gaps")))
        found.append(("nsys-ai nvtx_layer_breakdown", "nsys", 1, lambda f: on_copy(f, "skill", "run", "nvtx_layer_breakdown")))
    found.append(("Python json.load and sum", "kineto", 1, lambda f: [python, "-c", JSON_SUM, f]))
    if has_module(python, "orjson"):
        found.append(("orjson and sum", "kineto", 1, lambda f: [python, "-c", ORJSON_SUM, f]))
    if has_module(python, "hta"):
        found.append(("HTA kernel breakdown and idle", "kineto", 1, lambda f: [python, "-c", HTA, f]))
    lens = os.environ.get("PERFPROF_TRACELENS")
    if lens:
        script = str(pathlib.Path(lens) / "TraceLens" / "Reporting" / "generate_perf_report_pytorch.py")
        found.append(("TraceLens perf report (CSV)", "kineto", 1, lambda f: [python, script, "--profile_json_path", f, "--output_csvs_dir", str(work / "lens")]))
    return [tool for tool in found if args.only is None or any(word in tool[0] for word in args.only.split(","))]


def make(args, work, kind, millions):
    generators = pathlib.Path(args.generators)
    name = work / (f"n{millions}m.sqlite" if kind == "nsys" else f"k{millions}m{'_f' if args.few_steps else ''}.json")
    if not name.exists():
        print(f"making {name.name}", file=sys.stderr)
        count = str(int(millions * 1_000_000))
        if kind == "nsys":
            command = [sys.executable, str(generators / "gen_nsys_sqlite.py"), str(name), "--kernels", count]
        else:
            command = [sys.executable, str(generators / "gen_kineto.py"), str(name), "--events", count]
            if args.few_steps:
                command += ["--prof-every", "100"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return str(name)


def main():
    shared = pathlib.Path(os.environ.get("PERFPROF_SHARED", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=pathlib.Path, required=True, help="where the generated files are kept (gigabytes)")
    parser.add_argument("--generators", default=str(shared / "bench"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nsys", default="1,5", help="millions of kernels")
    parser.add_argument("--kineto", default="1", help="millions of events")
    parser.add_argument("--few-steps", action="store_true", help="Kineto files with 8 ProfilerSteps, which HTA can finish")
    parser.add_argument("--only", help="comma-separated words of tool names")
    parser.add_argument("--timeout", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/results/trace-speed")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    (args.work / "runs").mkdir(exist_ok=True)
    perfprof = os.environ.get("PERFPROF", str(ROOT / "target/release/perfprof"))
    python = os.environ.get("PERFPROF_PEER_PYTHON", sys.executable)
    sizes = [("nsys", float(n)) for n in args.nsys.split(",") if n] + [("kineto", float(n)) for n in args.kineto.split(",") if n]
    files = {(kind, size): make(args, args.work, kind, int(size) if size == int(size) else size) for kind, size in sizes}
    jobs = [(tool, size) for tool in tools(args, python, perfprof, args.work) for kind, size in sizes if kind == tool[1] and size <= tool[2]]
    order = random.Random(args.seed)
    samples = {}
    for round_number in range(args.rounds):
        order.shuffle(jobs)
        for (name, kind, _, command), size in jobs:
            key = (name, kind, size)
            if any("error" in sample for sample in samples.get(key, [])):
                continue
            with open(files[(kind, size)], "rb") as file:
                while file.read(1 << 24):
                    pass  # into the page cache, for every tool alike
            sample = usage_of(command(files[(kind, size)]), args.timeout)
            sample["round"] = round_number
            samples.setdefault(key, []).append(sample)
            shutil.rmtree(args.work / "runs", ignore_errors=True)
            (args.work / "runs").mkdir(exist_ok=True)
            print(f"{round_number + 1}/{args.rounds} {name} {kind} {size:g}M {sample}", file=sys.stderr)
    rows = []
    for (name, kind, size), got in sorted(samples.items(), key=lambda item: (item[0][1], item[0][2], item[0][0])):
        good = [sample for sample in got if "cpu_s" in sample]
        base = {sample["round"]: sample["cpu_s"] for sample in samples.get(("perfprof analyze", kind, size), []) if "cpu_s" in sample}
        kern = {sample["round"]: sample["cpu_s"] for sample in samples.get(("perfprof cuda_gpu_kern_sum", kind, size), []) if "cpu_s" in sample}
        ratio = lambda reference: [sample["cpu_s"] / reference[sample["round"]] for sample in good if sample["round"] in reference]
        row = {"tool": name, "file": f"{kind} {size:g} M", "n": len(good)}
        if good:
            row.update({"cpu_s": statistics.median(s["cpu_s"] for s in good), "cpu_s_min": min(s["cpu_s"] for s in good), "cpu_s_max": max(s["cpu_s"] for s in good), "wall_s": statistics.median(s["wall_s"] for s in good), "rss_mb": max(s["rss_mb"] for s in good)})
            for key, values in (("vs_analyze", ratio(base)), ("vs_kern_sum", ratio(kern))):
                if values:
                    row[key] = [statistics.median(values), min(values), max(values)]
        else:
            row["error"] = got[0]["error"]
        rows.append(row)
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    versions = {"python": platform.python_version()}
    result = {"schema_version": SCHEMA_VERSION, "date": datetime.date.today().isoformat(), "machine": {"cpu": cpu, "cpus": os.cpu_count(), "kernel": platform.release()}, "rounds": args.rounds, "seed": args.seed, "versions": versions, "rows": rows, "samples": [{"tool": k[0], "file": f"{k[1]} {k[2]:g} M", **s} for k, v in samples.items() for s in v]}
    args.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    text = [f"# Reading and analysing traces: perfprof beside its peers\n", f"{result['date']}, {cpu}, {os.cpu_count()} CPUs, {args.rounds} interleaved rounds (`scripts/trace-side-by-side.py`). CPU seconds are user + system, median (least–most); ratios are tool / perfprof within a round, median (least–most): above 1 perfprof is cheaper. Files are in the page cache for every tool.\n", "| file | tool | n | CPU s | wall s | peak RSS MB | ÷ perfprof analyze | ÷ perfprof kern_sum |", "|---|---|---:|---:|---:|---:|---:|---:|"]
    show = lambda values: f"{values[0]:.2f} ({values[1]:.2f}–{values[2]:.2f})" if values else "–"
    for row in rows:
        if "error" in row:
            text.append(f"| {row['file']} | {row['tool']} | 0 | {row['error']} | | | | |")
        else:
            text.append(f"| {row['file']} | {row['tool']} | {row['n']} | {row['cpu_s']:.2f} ({row['cpu_s_min']:.2f}–{row['cpu_s_max']:.2f}) | {row['wall_s']:.2f} | {row['rss_mb']:.0f} | {show(row.get('vs_analyze'))} | {show(row.get('vs_kern_sum'))} |")
    args.out.with_suffix(".md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
