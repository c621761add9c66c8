#!/usr/bin/env bash
# Proves perfprof on a GPU in one unattended run of a few minutes: prints PASS, FAIL or NOT RUN for each line and writes accept.json and accept.md.
# Needs the binary, Python 3, the NVIDIA driver and the CUDA 13 libraries; PyTorch, transformers, compute-sanitizer and ncu where they are there.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: scripts/gpu/accept.sh [--pack] [--binary FILE] [ARGUMENT...]

  --pack         where the binary was built: compress it to target/gpu/perfprof.xz, to be carried to the GPU machine; runs nothing
  --binary FILE  the binary (default: target/gpu/perfprof.xz, else target/cuda/release/perfprof, else perfprof on the PATH)
  ARGUMENT       passed on to accept.py: --out DIR, --seconds N, --only STEP,..., --skip STEP,..., --list

A GPU session, from a clean clone:
  scripts/build-cuda.sh && scripts/gpu/accept.sh --pack       here, without a GPU
  scripts/gpu/accept.sh --out DIR                             there; needs neither Rust nor the internet
USAGE
}

say() { printf 'accept.sh: %s\n' "$*" >&2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
binary= pack=0
while (($#)); do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --pack) pack=1; shift ;;
        --binary) (($# >= 2)) || { say 'error: `--binary` needs a file'; exit 1; }; binary=$2; shift 2 ;;
        --binary=*) binary=${1#--binary=}; shift ;;
        *) break ;;
    esac
done

built=$root/target/cuda/release/perfprof
packed=$root/target/gpu/perfprof.xz
if ((pack)); then
    [[ -x ${binary:-$built} ]] || { say "error: no binary at \`${binary:-$built}\`"; say 'hint: scripts/build-cuda.sh builds it'; exit 2; }
    mkdir -p "$(dirname "$packed")"
    xz --threads=0 --stdout "${binary:-$built}" >"$packed.new"
    mv "$packed.new" "$packed"
    say "$(du -h "$packed" | cut -f1) in ${packed#"$root"/}"
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [[ -z $binary ]]; then
    if [[ -f $packed ]]; then
        xz --decompress --stdout "$packed" >"$work/perfprof"
        chmod +x "$work/perfprof"
        binary=$work/perfprof
    elif [[ -x $built ]]; then
        binary=$built
    else
        binary=$(command -v perfprof) || { say 'error: no binary'; say 'hint: --binary FILE, or --pack where it was built'; exit 2; }
    fi
fi

python=${PYTHON:-python3}
command -v "$python" >/dev/null || { say "error: \`$python\` was not found"; exit 2; }
# Libraries of the toolkit or of PyTorch's wheels; the driver's own are found without help.
libraries=$("$python" - <<'PY'
import glob, os, site, sys
roots = [*site.getsitepackages(), site.getusersitepackages(), *sys.path]
found = []
for root in roots:
    found += glob.glob(os.path.join(root, "nvidia", "cu1*", "lib")) + glob.glob(os.path.join(root, "nvidia", "*", "lib"))
found += glob.glob("/usr/local/cuda*/lib64") + glob.glob("/usr/local/cuda*/extras/CUPTI/lib64")
print(":".join(dict.fromkeys(found)))
PY
)
export LD_LIBRARY_PATH=${libraries}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export PERFPROF_KERNEL_CACHE=${PERFPROF_KERNEL_CACHE:-$work/kernels}
"$python" "$root/scripts/gpu/accept.py" --perfprof "$binary" "$@"
