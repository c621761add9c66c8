#!/usr/bin/env bash
# Puts a CUDA 13.0 toolkit under .cuda/ from NVIDIA's wheels, so that `--features cuda` builds on a machine with neither a toolkit nor a GPU.
# Nothing is installed into Python or the system. Running it again verifies what is there and downloads nothing.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: scripts/cuda-toolkit.sh [--dest DIR] [--runtime] [--flash-attn] [--libclang] [--print-env]

Downloads nvcc 13.0, its headers and libclang (for the NVTX bindings) from PyPI with `pip download`, about 130 MB, and unpacks them into
DIR (default: .cuda/ beside scripts/). Libraries that exist only with a driver are stood in for by empty archives: perfprof loads the real
ones at run time.

Options:
  --dest DIR     where the toolkit goes
  --runtime      fetch NVRTC and CUPTI too (100 MB): `nvrtc` compiles the kernels as a GPU machine would, without a GPU
  --flash-attn   fetch the CUTLASS headers that `--features flash-attn` compiles
  --libclang     fetch libclang alone (25 MB): all that scripts/check-cuda.sh needs
  --print-env    print the variables a build needs, as `export` lines, and do nothing else
  -h, --help     this text

`scripts/build-cuda.sh` calls this where no toolkit is found, and sets the variables itself.

Environment:
  PYTHON         the Python to use (default: python3); it needs pip, and pip's own settings (index, proxy) apply
USAGE
}

say() { printf 'cuda-toolkit.sh: %s\n' "$*" >&2; }
die() { say "error: $1"; shift; for hint in "$@"; do say "hint: $hint"; done; exit 2; }

python=${PYTHON:-python3}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dest=$root/.cuda
runtime=0 flash=0 print=0 clang_only=0
while (($#)); do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --dest) (($# >= 2)) || die '`--dest` needs a directory'; dest=$2; shift 2 ;;
        --dest=*) dest=${1#--dest=}; shift ;;
        --runtime) runtime=1; shift ;;
        --flash-attn) flash=1; shift ;;
        --libclang) clang_only=1; shift ;;
        --print-env) print=1; shift ;;
        *) usage >&2; say "error: unknown argument \`$1\`"; exit 1 ;;
    esac
done

print_env() {
    printf 'export CUDA_HOME=%q CUDA_PATH=%q CUDA_ROOT=%q\n' "$dest/toolkit" "$dest/toolkit" "$dest/toolkit"
    printf 'export PATH=%q:"$PATH"\n' "$dest/toolkit/bin"
    printf 'export LIBCLANG_PATH=%q\n' "$dest/clang"
    printf 'export CUDAFORGE_HOME=%q\n' "$dest/cudaforge"
}
if ((print)); then print_env; exit 0; fi

command -v "$python" >/dev/null || die "\`$python\` was not found" 'install Python 3 with pip, or set PYTHON'
"$python" -m pip --version >/dev/null 2>&1 || die "\`$python\` has no pip" 'Debian: apt-get install python3-pip'
command -v c++ >/dev/null || die 'no C++ compiler' 'Debian: apt-get install g++'
[[ $(uname -sm) == 'Linux x86_64' ]] || die "the wheels named here are for Linux on x86-64, not $(uname -sm)" \
    'install the CUDA toolkit 13.0 of your system; scripts/build-cuda.sh then uses it'

# Versions are pinned: another one could generate other code.
compiler=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85)
libraries=(nvidia-cuda-nvrtc==13.0.88 nvidia-cuda-cupti==13.0.85)
clang=libclang==18.1.1
cutlass=nvidia-cutlass==3.5.0.0

work=
cleanup() { [[ -z $work ]] || rm -rf "$work"; }
trap cleanup EXIT

# fetch NAME TARGET WHEEL...: downloads wheels and unpacks all of them into a new folder TARGET, once.
fetch() {
    local name=$1 target=$2
    shift 2
    [[ -f $target/.complete && $(<"$target/.complete") == "$*" ]] && return 0
    say "fetching $name"
    work=$(mktemp -d "$dest/.work.XXXXXX")
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work/wheels" "$@" \
        || die "pip could not download $name" 'pip config list shows the index in use; pip needs one that mirrors PyPI'
    "$python" - "$work/wheels" "$work/out" <<'PY'
import os, pathlib, sys, zipfile
wheels, out = map(pathlib.Path, sys.argv[1:])
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = archive.extract(entry, out)
            # zipfile drops permissions, and nvcc is a program.
            mode = entry.external_attr >> 16 & 0o777
            if mode and not entry.is_dir():
                os.chmod(path, mode | 0o600)
PY
    rm -rf "$target"
    mv "$work/out" "$target"
    printf '%s' "$*" >"$target/.complete"
    rm -rf "$work"
    work=
}

mkdir -p "$dest"
dest=$(cd "$dest" && pwd)
packages=("${compiler[@]}")
((runtime)) && packages+=("${libraries[@]}")
# A toolkit with more than was asked for will do.
if ((!runtime)) && [[ -f $dest/wheels/.complete && $(<"$dest/wheels/.complete") == "${compiler[*]} ${libraries[*]}" ]]; then
    packages+=("${libraries[@]}")
fi
fetch libclang "$dest/clang-wheel" "$clang"
ln -sfn "$(dirname "$(find "$dest/clang-wheel" -name 'libclang*.so*' | head -n 1)")" "$dest/clang"
if ((clang_only)); then printf '%s\n' "$dest/clang"; exit 0; fi
fetch 'the CUDA 13.0 compiler' "$dest/wheels" "${packages[@]}"

# All wheels unpack into one tree that is laid out as a toolkit.
tree=$dest/wheels/nvidia/cu13
[[ -x $tree/bin/nvcc ]] || die 'the wheels hold no nvcc' 'remove the folder and run this again'
ln -sfn "$tree" "$dest/toolkit"
[[ -e $tree/lib64 ]] || ln -s lib "$tree/lib64"
# What the linker is asked for. No function of them is referenced: all are looked up in the driver's libraries at run time.
for library in cuda cublas cublasLt curand nvrtc cupti; do
    if [[ ! -f $tree/lib/lib$library.a ]]; then ar rcs "$tree/lib/lib$library.a"; fi
done
[[ -e $tree/lib/libcudart.a ]] || ln -s libcudart_static.a "$tree/lib/libcudart.a"

if ((flash)); then
    # candle-flash-attn clones CUTLASS 3.5.0 from GitHub unless cudaforge finds it, with this very commit, in its cache.
    commit=7d49e6c7e2f8896c47f586706e67e1fb215529dc
    fetch 'the CUTLASS 3.5.0 headers' "$dest/cutlass-wheel" "$cutlass"
    cache=$dest/cudaforge/git/checkouts/cutlass-${commit:0:16}
    if [[ ! -f $cache/.git/HEAD ]]; then
        mkdir -p "$cache/tools/util"
        cp -r "$dest/cutlass-wheel/cutlass_library/source/include" "$cache/"
        cp -r "$dest/cutlass-wheel/cutlass_library/source/tools/util/include" "$cache/tools/util/"
        git -C "$cache" init --quiet
        printf '%s\n' "$commit" >"$cache/.git/HEAD"
    fi
fi

"$dest/toolkit/bin/nvcc" --version | grep -q 'release 13.0' || die 'the nvcc that was fetched does not run'
say "ready: $("$dest/toolkit/bin/nvcc" --version | tail -n 1)"
printf '%s\n' "$dest/toolkit"
