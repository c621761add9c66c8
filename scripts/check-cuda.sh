#!/usr/bin/env bash
# Lints the code of `--features cuda` without a CUDA toolkit: candle's own kernels are not compiled, which would take most of the time and proves
# nothing about ours. What is left needs libclang (for the NVTX bindings), which scripts/cuda-toolkit.sh fetches.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: scripts/check-cuda.sh [COMMAND] [ARGUMENT...]

Runs `cargo COMMAND --features cuda ARGUMENT...` with a stand-in for nvcc that writes empty files; COMMAND is `clippy --lib -- -D warnings` unless
given. Nothing built this way can run: scripts/build-cuda.sh makes the real thing.

Environment:
  PERFPROF_TEST_OFFLINE=1   get nothing from any network; without libclang the check is skipped, and says so
  PERFPROF_REQUIRE_ALL=1    fail instead of skipping
USAGE
}

if [[ ${1:-} == -h || ${1:-} == --help ]]; then usage; exit 0; fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf 'check-cuda.sh: %s\n' "$*" >&2; }

if [[ -z ${LIBCLANG_PATH:-} ]] && ! compgen -G '/usr/lib/llvm-*/lib/libclang[.-][s0-9]*' >/dev/null; then
    if [[ ! -e .cuda/clang ]] && { [[ ${PERFPROF_TEST_OFFLINE:-0} == 1 ]] || ! scripts/cuda-toolkit.sh --libclang >/dev/null; }; then
        say 'skipped: no libclang, which the NVTX bindings are made with'
        [[ ${PERFPROF_REQUIRE_ALL:-0} != 1 ]] || exit 1
        exit 0
    fi
    export LIBCLANG_PATH=$PWD/.cuda/clang
fi

standin=$PWD/target/cuda-standin
mkdir -p "$standin/bin" "$standin/lib" "$standin/include"
# An object has to be one, as it is put into an archive; nobody links it.
printf '' | cc -x c -c - -o "$standin/empty.o"
cat >"$standin/bin/nvcc" <<STANDIN
#!/usr/bin/env bash
for word; do
    case \$word in
        --version | -V) printf 'nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 13.0, V13.0.88\n'; exit ;;
        --list-gpu-code) echo sm_90; exit ;;
    esac
done
out= folder=. ptx=0 sources=()
while ((\$#)); do
    case \$1 in
        -o | --output-file) out=\$2; shift ;;
        -odir | --output-directory) folder=\$2; shift ;;
        -ptx | --ptx) ptx=1 ;;
        *.cu) sources+=("\$1") ;;
    esac
    shift
done
write() {
    case \$1 in
        *.o) cp "$standin/empty.o" "\$1" ;;
        *.a) ar crs "\$1" ;;
        *) : >"\$1" ;;
    esac
}
if [[ -n \$out ]]; then write "\$out"; exit; fi
for source in "\${sources[@]}"; do
    name=\${source##*/}
    if ((ptx)); then write "\$folder/\${name%.cu}.ptx"; else write "\$folder/\${name%.cu}.o"; fi
done
STANDIN
chmod +x "$standin/bin/nvcc"
: >"$standin/include/cuda.h"

include=$(cc -print-file-name=include)
export BINDGEN_EXTRA_CLANG_ARGS="${BINDGEN_EXTRA_CLANG_ARGS:-} -I$include"
export PATH=$standin/bin:$PATH CUDA_HOME=$standin CUDA_PATH=$standin CUDA_ROOT=$standin CUDA_COMPUTE_CAP=90 CUDARC_CUDA_VERSION=13000
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/cuda-check}
if (($# == 0)); then set -- clippy --lib -- -D warnings; fi
command=$1
shift
exec cargo "$command" --locked --features cuda "$@"
