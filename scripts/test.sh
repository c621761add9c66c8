#!/usr/bin/env bash
# The test command of the README: gets what the tests need where it can, says what it could not get, and runs them all.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/test.sh [ARGUMENT...]

Fetches the real model (scripts/fetch-model.sh smollm2) and, as root on Debian or Ubuntu, Chromium, then runs every test.
What cannot be had is named, and the tests that need it skip themselves and say so.
Arguments are passed to the test runner: cargo nextest where it is installed, else cargo test.

Environment:
  PERFPROF_TEST_OFFLINE=1   get nothing from any network
  PERFPROF_REQUIRE_ALL=1    fail instead of skipping what a missing model or browser would skip
  PERFPROF_LLAMA_SERVER     a llama-server to be load-tested; set to peers/bin/llama-server, or the one on PATH, where there is one
                            (scripts/peers/build-llama-cpp.sh peers)
EOF
}

if [[ ${1:-} == -h || ${1:-} == --help ]]; then usage; exit 0; fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'test.sh: %s\n' "$*" >&2; }
missing=()

model=models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
if [[ ${PERFPROF_TEST_OFFLINE:-0} == 1 ]]; then
    [[ -f $model ]] || { say "offline and \`$model\` is not there: tests on the real model skip"; missing+=(model); }
elif ! scripts/fetch-model.sh smollm2 >/dev/null; then
    say 'the real model could not be fetched: tests on it skip'
    missing+=(model)
fi

chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
if ! chromium >/dev/null; then
    if [[ ${PERFPROF_TEST_OFFLINE:-0} != 1 && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        say 'installing Chromium, which opens report.html in the tests'
        log=$(mktemp)
        if ! { timeout 300 apt-get update && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y --no-install-recommends chromium; } \
            >"$log" 2>&1; then
            tail -n 3 "$log" >&2
        fi
        rm -f "$log"
    fi
    if ! chromium >/dev/null; then
        say 'no Chromium: tests that open report.html in a browser skip (Debian: apt-get install chromium)'
        missing+=(chromium)
    fi
fi

if [[ -z ${PERFPROF_LLAMA_SERVER:-} ]]; then
    if [[ -x peers/bin/llama-server ]]; then
        export PERFPROF_LLAMA_SERVER=$PWD/peers/bin/llama-server
    elif command -v llama-server >/dev/null; then
        PERFPROF_LLAMA_SERVER=$(command -v llama-server)
        export PERFPROF_LLAMA_SERVER
    fi
fi

if [[ ${PERFPROF_REQUIRE_ALL:-0} == 1 && ${#missing[@]} -gt 0 ]]; then
    say "PERFPROF_REQUIRE_ALL=1, and missing: ${missing[*]}"
    exit 1
fi

if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --profile ci "$@"
    # nextest does not run documentation tests.
    if grep -rqE '^\s*//[/!] ```' src; then cargo test --doc --locked; fi
else
    say 'cargo-nextest is not installed (cargo install --locked cargo-nextest): using cargo test'
    cargo test --locked "$@"
fi
((${#missing[@]} == 0)) || say "passed without: ${missing[*]}"
