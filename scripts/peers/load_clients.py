#!/usr/bin/env python3
"""Runs perfprof's load client and its peers in turn against an independent mock server: what each reports, and what really left the server.

The mock is pinned to one core and the client to another. Every repetition runs each client once, in an order drawn anew from a seed. The mock records
its own send times: a run in which it was late itself (p99 of its lag at or above --max-lag-ms) is shown, dropped, counted and repeated. CPU is of the
client with all its children (wait4, or samples where those are more), memory the largest PSS of the process tree, sampled every 200 ms.

Raw rows go to WORK/rows.jsonl as they are made; --write puts them and the page into docs/results/load-clients.{jsonl,md}. A client without a path is
left out. --ceiling looks for the chunk rate at which a client on one core no longer keeps up, instead of the table.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import os
import pathlib
import platform
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import time

import load_page
import load_peers

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TICK_S = 0.02
PSS_EVERY_S = 0.2
# A client is good at a level of --ceiling when its p99 between chunks is at most this far off, and this share of the offered chunks came through.
CEILING_ITL_MS = 5.0
CEILING_SHARE = 0.98
CEILING_STEP = 1.25
# The mock counts times in bins up to 4 s; what is longer stands in the last.
MOCK_ENDS_MS = 3999.9


class Failed(Exception):
    """A run gave no row; the text says why."""


def log(text):
    print(text, file=sys.stderr, flush=True)


def pinned(core, policy, level):
    """What a child does before it runs: its core, its priority (none: as it is), and as many files as it may have."""

    def prepare():
        os.sched_setaffinity(0, {core})
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if policy == "nice":
            os.setpriority(os.PRIO_PROCESS, 0, level)
        elif policy is not None:
            os.sched_setscheduler(0, policy, os.sched_param(level))

    return prepare


class Mock:
    """The mock server with one pace, until closed."""

    def __init__(self, args, ttft_ms, itl_ms):
        self.args, self.ttft_ms, self.itl_ms = args, ttft_ms, itl_ms
        command = [args.mock, "--port", str(args.port), "--ttft-ms", str(ttft_ms), "--itl-ms", str(itl_ms)]
        # A realtime class keeps the script and other processes off the mock's core; the client gets a lower one on its own.
        self.process = subprocess.Popen(command, preexec_fn=pinned(args.mock_core, os.SCHED_FIFO if args.chrt else None, 20))
        for _ in range(200):
            answers = False
            with contextlib.suppress(OSError):
                self.get("/health")
                answers = True
            # Another server on the port answers, too.
            if self.process.poll() is None and answers:
                return
            if self.process.poll() is not None:
                raise SystemExit(f"the mock does not start: exit {self.process.returncode}; is port {args.port} taken?")
            time.sleep(0.02)
        raise SystemExit("the mock does not answer")

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.args.port, timeout=20)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def core_busy_s(core):
    """CPU seconds spent on a core since boot, idle and iowait left out."""
    line = next(line for line in pathlib.Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    fields = [int(word) for word in line.split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


class Tree:
    """CPU seconds and PSS of a process and its descendants, as far as samples see them."""

    def __init__(self, root, spawned_ns):
        self.root, self.pids, self.cpu_ns, self.points = root, {root}, {}, [(spawned_ns, 0)]
        self.pss_mb, self.processes, self.cost_s, self.next_pss = None, 0, 0.0, 0.0

    def descendants(self):
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError, ValueError):
                    text = pathlib.Path("/proc", entry, "stat").read_text()
                    parents.setdefault(int(text.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
        found, todo = set(), [self.root]
        while todo:
            pid = todo.pop()
            found.add(pid)
            todo += parents.get(pid, [])
        return found

    def sample(self):
        begun = time.monotonic()
        full = begun >= self.next_pss
        if full:
            self.next_pss = begun + PSS_EVERY_S
            self.pids = self.descendants()
            self.processes = max(self.processes, len(self.pids))
        for pid in self.pids:
            # A thread that has ended keeps its last figure.
            with contextlib.suppress(OSError, ValueError, IndexError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    with contextlib.suppress(OSError, ValueError, IndexError):
                        self.cpu_ns[task] = int(pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        self.points.append((time.monotonic_ns(), sum(self.cpu_ns.values())))
        if full:
            total, seen = 0, False
            for pid in self.pids:
                with contextlib.suppress(OSError, StopIteration):
                    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                    total += int(next(line for line in lines if line.startswith("Pss:")).split()[1])
                    seen = True
            if seen:
                self.pss_mb = max(self.pss_mb or 0.0, total / 1024)
        self.cost_s = time.monotonic() - begun

    def cpu_between(self, begin_ns, end_ns):
        """CPU seconds between two moments, between samples in proportion."""

        def at(when):
            after = next((index for index, point in enumerate(self.points) if point[0] >= when), len(self.points) - 1)
            (t0, c0), (t1, c1) = self.points[after - 1], self.points[after]
            return c0 + (c1 - c0) * (when - t0) / max(1, t1 - t0)

        return (at(end_ns) - at(begin_ns)) / 1e9


def truth(value_ms):
    """A figure of the mock; None beyond the end of its records."""
    return value_ms if value_ms < MOCK_ENDS_MS else None


def skip_probes(mock, peer, ended, deadline):
    """Clears the mock's records once the client has sent what it sends before its load, or has ended; returns what it said last."""
    while time.monotonic() < deadline:
        if select.select([ended], [], [], 0)[0]:
            return mock.get("/stats")
        stats = mock.get("/stats")
        if stats["done"] >= peer.probes and stats["active"] == 0:
            mock.get("/reset")
            return stats
        time.sleep(0.005)
    raise Failed("its first request does not come")


def run(args, mock, peer, job):
    """One run of one client against a clean mock: the raw row."""
    for _ in range(500):
        before = mock.get("/stats")
        if before["active"] == 0:
            break
        time.sleep(0.02)
    mock.get("/reset")
    shutil.rmtree(job.dir, ignore_errors=True)
    job.dir.mkdir(parents=True)
    ideal_s = job.requests / job.streams * (mock.ttft_ms + (job.tokens - 1) * mock.itl_ms) / 1000
    patience_s = (180 if peer.many else 60) + 6 * ideal_s
    deadline = time.monotonic() + patience_s
    load, busy = os.getloadavg()[0], core_busy_s(args.client_core)
    row = {"client": peer.name, "streams": job.streams, "requests": job.requests, "tokens": job.tokens, "ttft_ms": mock.ttft_ms, "itl_ms": mock.itl_ms, "load_1m": load}
    command = [str(word) for word in peer.command(job)]
    policy, level = ("nice", -15) if peer.many else (os.SCHED_RR, 10)
    with open(job.dir / "stdout", "w+b") as out, open(job.dir / "stderr", "w+b") as errors:
        spawned = time.monotonic_ns()
        client = subprocess.Popen(
            command, stdout=out, stderr=errors, stdin=subprocess.DEVNULL, start_new_session=True, cwd=job.dir,
            preexec_fn=pinned(args.client_core, policy if args.chrt else None, level),
        )  # fmt: skip
        tree, ended = Tree(client.pid, spawned), os.pidfd_open(client.pid)
        try:
            if peer.probes:
                row["probe_ms"] = (skip_probes(mock, peer, ended, deadline)["t_first_ns"] - spawned) / 1e6
            # The samples cost at most a twentieth of a core, however many processes there are.
            while not select.select([ended], [], [], max(TICK_S, 20 * tree.cost_s))[0]:
                tree.sample()
                if time.monotonic() > deadline:
                    raise Failed(f"stopped after {patience_s:.0f} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                if not select.select([ended], [], [], 0)[0]:
                    os.killpg(client.pid, signal.SIGKILL)
            os.close(ended)
            _, status, usage = os.wait4(client.pid, 0)
            client.returncode = os.waitstatus_to_exitcode(status)
            # Children that nobody waits for are only in the samples.
            cpu, wall_s = max(usage.ru_utime + usage.ru_stime, tree.points[-1][1] / 1e9), (time.monotonic_ns() - spawned) / 1e9
            tree.points.append((time.monotonic_ns(), cpu * 1e9))
        stats = mock.get("/stats")
        out.seek(0)
        errors.seek(0)
        said, complained = out.read().decode(errors="replace"), errors.read().decode(errors="replace")
    if client.returncode not in peer.exits:
        lines = (complained.strip() or said.strip()).splitlines()
        raise Failed(f"exit {client.returncode}: {lines[-1][:300] if lines else ''}")
    if stats["done"] != stats["requests"] or (stats["done"] != job.requests and not peer.many):
        raise Failed(f"the mock saw {stats['requests']} requests and finished {stats['done']} of {job.requests}")
    try:
        reported = peer.read(job, said)
    except (OSError, ValueError, KeyError, IndexError, TypeError, StopIteration) as error:
        raise Failed(f"its figures cannot be read: {error!r}") from error
    window_cpu = tree.cpu_between(stats["t_first_ns"], stats["t_last_ns"])
    row.update(
        {
            "own": reported.pop("own", None),
            "reported": reported,
            "truth": {f"{name}_{q}": truth(stats[name][f"{q}_ms"]) for name in ("ttft", "itl", "e2e") for q in ("p50", "p99")},
            "mock_lag_p99_ms": stats["lag"]["p99_ms"],
            "mock_cpu_s": stats["server_cpu_s"] - before["server_cpu_s"],
            "chunks": stats["chunks"],
            "window_s": stats["window_s"],
            "chunks_per_s": stats["chunks_per_s"],
            "peak_in_flight": stats["peak_active"],
            "cpu_s": cpu,
            "window_cpu_s": window_cpu,
            "us_per_chunk": window_cpu / stats["chunks"] * 1e6,
            "pss_mb": tree.pss_mb,
            "wall_s": wall_s,
            "processes": tree.processes,
            "start_ms": (stats["t_first_ns"] - spawned) / 1e6,
            "others_on_core_s": max(0.0, core_busy_s(args.client_core) - busy - cpu),
            "kept": stats["lag"]["p99_ms"] < args.max_lag_ms,
        }
    )
    return row


class Rows:
    """Raw rows, to a file as they come."""

    def __init__(self, args, head):
        self.path, self.all = args.work / "rows.jsonl", [head]
        self.path.write_text(json.dumps(head) + "\n")

    def add(self, row):
        self.all.append(row)
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")
        if "failed" in row:
            text = f"failed: {row['failed']}"
        else:
            reported, truth, us = row["reported"], row["truth"], row["us_per_chunk"]
            shown = " ".join(f"{name} {load_page.number(reported[name])}/{load_page.number(truth[name])}" for name in ("ttft_p50", "ttft_p99", "itl_p99", "e2e_p99"))
            text = f"{shown}, {row['chunks_per_s']:.0f} chunks/s, {load_page.number(us)} us, mock lag p99 {row['mock_lag_p99_ms']:.2f} ms{'' if row['kept'] else ': DROPPED'}"
        log(f"{row['part']} {row['client']} x{row['streams']} (load {row['load_1m']:.1f}): {text}")


def attempt(args, rows, mock, peer, job, **more):
    """Runs until a row is kept, or fails, or the retries are used up; the last row. A level of --ceiling that was met is not tried again."""
    for number in range(args.retries + 1):
        try:
            row = {**run(args, mock, peer, job), **more, "attempt": number}
        except Failed as error:
            row = {"client": peer.name, "streams": job.streams, "load_1m": os.getloadavg()[0], **more, "attempt": number, "failed": str(error), "kept": False}
        if "offered" in row:
            row["short"] = short_of(row)
        rows.add(row)
        if row["kept"] or "failed" in row or ("short" in row and row["short"] is None):
            break
    return row


def table(args, rows, peers):
    """Every client at every number of streams, in turn."""
    order = random.Random(args.seed)
    sizes = [(streams, args.ttft_ms, args.itl_ms, args.tokens, args.repetitions, "table") for streams in args.streams]
    sizes += [(args.wide, 1000.0, 1000.0, args.wide_tokens, args.wide_repetitions, "wide")] if args.wide else []
    for streams, ttft_ms, itl_ms, tokens, repetitions, part in sizes:
        # The mock cannot read thousands of requests at once and send chunks on time: wide streams begin once, and wait a second for their first chunk.
        waves = 1 if part == "wide" else 2 if streams >= 2048 else 3 if streams >= 1024 else 4
        # A client that fails twice in a row at a size is not waited for again.
        failures = dict.fromkeys((peer.name for peer in peers if streams <= peer.most_streams), 0)
        with Mock(args, ttft_ms, itl_ms) as mock:
            for repetition in range(repetitions):
                turn = [peer for peer in peers if failures.get(peer.name, 2) < 2]
                order.shuffle(turn)
                for peer in turn:
                    row = attempt(args, rows, mock, peer, args.job(streams, waves * streams, tokens), part=part, repetition=repetition)
                    failures[peer.name] = failures[peer.name] + 1 if "failed" in row else 0


def short_of(row):
    """Why a client did not keep up at a level of --ceiling; None if it did. A late mock takes nothing from a client that did all the same."""
    if "failed" in row:
        return row["failed"]
    said, sent = row["reported"]["itl_p99"], row["truth"]["itl_p99"]
    if said is not None and abs(said - sent) <= CEILING_ITL_MS and row["chunks_per_s"] >= CEILING_SHARE * row["offered"]:
        return None
    if not row["kept"]:
        return f"the mock itself was late (lag p99 {row['mock_lag_p99_ms']:.1f} ms)"
    if said is None or abs(said - sent) > CEILING_ITL_MS:
        return f"p99 between chunks {load_page.number(said)} ms, truth {sent:.1f}"
    return f"{row['chunks_per_s']:,.0f} of {row['offered']:,.0f} chunks/s offered"


def ceiling(args, rows, peers):
    """Raises the streams until each client has failed a level twice, level by level in turn."""
    order = random.Random(args.seed)
    alive, streams, tokens, itl_ms, waves = list(peers), args.ceiling_from, 100, 5.0, 10
    with Mock(args, args.ttft_ms, itl_ms) as mock:
        while alive and streams <= args.ceiling_to:
            offered = streams * tokens / (args.ttft_ms + (tokens - 1) * itl_ms) * 1000
            order.shuffle(alive)
            for peer in list(alive):
                # One good run is enough; one that is not good is repeated, since a busy moment looks the same.
                for number in range(2):
                    row = attempt(args, rows, mock, peer, args.job(streams, waves * streams, tokens), part="ceiling", repetition=number, offered=offered)
                    if row["short"] is None:
                        break
                    log(f"  {peer.name} x{streams}: {row['short']}")
                else:
                    alive.remove(peer)
            streams = round(streams * CEILING_STEP)


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)}


def said_version(command):
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return (done.stdout.strip() or done.stderr.strip()).splitlines()[0][:80] if done.returncode == 0 else None
    return None


def choose(args):
    """The clients there are, their versions, and why others are not there."""
    peers, versions, absent = [], {}, {}
    wanted = dict(word.partition("=")[::2] for word in args.with_.split(",") if word)

    def add(peer, version):
        peers.append(peer)
        versions[peer.name] = version

    add(load_peers.perfprof(args.perfprof, args.set), said_version([args.perfprof, "--version"]))
    if args.drain:
        add(load_peers.drain(args.drain), "source beside the mock")
    if args.vllm_rs:
        binary = load_peers.member(args.vllm_rs, "vllm/vllm-rs", args.work)
        add(load_peers.vllm_rs(binary), said_version([binary, "--version"]))
    if args.sglang:
        extension = load_peers.member(args.sglang, "rust_extensions/_bench", args.work)
        wheel = pathlib.Path(args.sglang).name
        works = said_version([args.python, "-c", load_peers.SGLANG_DRIVER, extension, "--help"])
        if works:
            add(load_peers.sglang(args.python, extension), wheel.split("-")[1] if wheel.endswith(".whl") else wheel)
        else:
            absent["sglang"] = f"{wheel} cannot be imported by {said_version([args.python, '--version'])}"
    version = said_version([args.python, "-c", "import aiohttp, platform; print(f'aiohttp {aiohttp.__version__}, Python {platform.python_version()}')"])
    if version:
        add(load_peers.simple(args.python), version)
    else:
        absent["aiohttp"] = "the Python of --python has no aiohttp"
    for name, make in (("aiperf", load_peers.aiperf), ("guidellm", load_peers.guidellm)):
        if name in wanted:
            binary = wanted[name] or shutil.which(name)
            version = binary and said_version([binary, "--version"])
            if version:
                add(make(binary), version)
            else:
                absent[name] = "it does not start here"
    if args.only:
        peers = [peer for peer in peers if peer.name in args.only.split(",")]
    return peers, versions, absent


def main():
    numbers = lambda text: [int(word) for word in text.split(",") if word]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mock", help="the mock server's binary")
    parser.add_argument("--drain", help="its reference client")
    parser.add_argument("--perfprof", default=str(ROOT / "target/release/perfprof"))
    parser.add_argument("--vllm-rs", metavar="FILE", help="vLLM's compiled client, or the vllm wheel")
    parser.add_argument("--sglang", metavar="FILE", help="the sglang wheel, or its _bench extension")
    parser.add_argument("--python", default=sys.executable, help="a Python with aiohttp that can import SGLang's extension (default: this one)")
    parser.add_argument("--with", dest="with_", default="", metavar="NAME[=PATH],...", help="heavy clients to run too: aiperf, guidellm")
    parser.add_argument("--only", help="names of clients, comma-separated")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a further setting for perfprof; repeatable")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for raw rows and what the clients write")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--mock-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument("--script-core", type=int, help="where this script samples (default: a third core, else the mock's: never the client's)")
    parser.add_argument("--chrt", action="store_true", help="realtime classes for mock (FIFO 20) and client (RR 10; nice -15 for one of many processes); needs root")
    parser.add_argument("--streams", type=numbers, default=[64, 256, 1024, 2048])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--retries", type=int, default=2, help="further tries of a run in which the mock was late")
    parser.add_argument("--ttft-ms", type=float, default=100.0)
    parser.add_argument("--itl-ms", type=float, default=20.0)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--input", type=int, default=100, help="tokens of a prompt")
    parser.add_argument("--wide", type=int, default=10_000, help="streams with 1 s to the first chunk and between chunks, one request each (0: none)")
    parser.add_argument("--wide-tokens", type=int, default=20)
    parser.add_argument("--wide-repetitions", type=int, default=3)
    parser.add_argument("--ceiling", action="store_true")
    parser.add_argument("--ceiling-from", type=int, default=64)
    parser.add_argument("--ceiling-to", type=int, default=4096)
    parser.add_argument("--max-lag-ms", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write docs/results/load-clients.{jsonl,md}")
    parser.add_argument("--from", dest="from_", nargs="+", type=pathlib.Path, metavar="ROWS", help="make the page from these raw rows and run nothing")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/results/load-clients")
    args = parser.parse_args()
    args.work = args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.from_:
        rows = [json.loads(line) for path in args.from_ for line in path.read_text().splitlines()]
    else:
        if not args.mock:
            parser.error("--mock is needed")
        if not {args.mock_core, args.client_core} <= os.sched_getaffinity(0) or args.mock_core == args.client_core:
            parser.error("the mock and the client need a core each")
        for name in ("mock", "drain", "perfprof", "vllm_rs", "sglang"):
            if getattr(args, name):
                setattr(args, name, str(pathlib.Path(getattr(args, name)).resolve()))
        others = os.sched_getaffinity(0) - {args.mock_core, args.client_core}
        os.sched_setaffinity(0, {args.script_core} if args.script_core is not None else others or {args.mock_core})
        tokenizer = load_peers.write_tokenizer(args.work / "tokenizer")
        url = f"http://127.0.0.1:{args.port}"
        args.job = lambda streams, requests, tokens: load_peers.Job(streams, requests, tokens, args.input, url, tokenizer, args.work / "run")
        peers, versions, absent = choose(args)
        head = {
            "part": "head", "schema_version": 1, "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"), "machine": machine(),
            "versions": {peer.name: versions[peer.name] for peer in peers}, "labels": {peer.name: peer.label for peer in peers}, "absent": absent,
            "chrt": args.chrt, "mock_core": args.mock_core, "client_core": args.client_core, "max_lag_ms": args.max_lag_ms, "seed": args.seed,
            "input": args.input, "perfprof_settings": args.set,
        }  # fmt: skip
        log(json.dumps(head))
        rows = Rows(args, head)
        (ceiling if args.ceiling else table)(args, rows, peers)
        rows = rows.all
    page = load_page.page(rows)
    print(page)
    if args.write:
        args.out.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        args.out.with_suffix(".md").write_text(page)


if __name__ == "__main__":
    main()
