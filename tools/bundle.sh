#!/usr/bin/env bash
# Puts a build into one relocatable folder, for a machine it was not built on: the binary, the shared
# libraries the other machine may lack, decks, and a launcher. What belongs to the machine itself
# stays behind: C and C++ run time, MPI and what it stands on, CUDA, NCCL, cuDNN and the driver.
#
#   tools/bundle.sh BUILD_DIR OUT_DIR [more executables of the build ...]
# On the other machine, in a folder with the build/assets of tools/setup.sh, which the deck names:
#   OUT_DIR/run -np 2 koios OUT_DIR/input/debug.ini training/steps=20
#   OUT_DIR/gpu_tests           where the test programs of a cuda build were carried too:
#   tools/bundle.sh build/cuda OUT_DIR $(find build/cuda/tests -name '*gpu_test' -o -name '*cuda_test' \
#                                        -o -name 'train_*_test' -o -name watchdog_probe)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' tools/bundle.sh; exit ;; esac
fail() { echo "error: $*" >&2; exit 1; }
[[ $# -ge 2 ]] || fail 'usage: tools/bundle.sh BUILD_DIR OUT_DIR [more executables]'
build=$1 out=$2
shift 2
[[ -x $build/app/koios ]] || fail "$build/app/koios is not there; build it first"

own='^(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|libgomp|ld-linux.*|libmpi.*|libopen-rte'
own+='|libopen-pal|libhwloc|libevent.*|libudev|libz|libnccl|libcuda|libcudart|libcublas.*|libcudnn.*'
own+='|libnvrtc.*|libnvJitLink.*)(-x86-64)?\.so'

[[ ! -e $out || -x $out/run || -z $(ls -A "$out") ]] || fail "$out is there and is not a bundle; name another folder"
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib"
for program in "$build/app/koios" "$@"; do
  strip -o "$out/bin/$(basename "$program")" "$program"
  ldd "$program" | awk '$2 == "=>" { print $1, $3 }' | while read -r name path; do
    [[ $name =~ $own ]] && continue
    [[ $path == /* ]] || fail "$program needs $name, which is not found here"
    cp -nL "$path" "$out/lib/$name"
  done
done
cp -r input tests/golden "$out/"
mkdir -p "$out/tests/comm" "$out/tests/equivalence" "$out/tests/interop"
cp tests/comm/watchdog_test.py "$out/tests/comm/"
cp tests/equivalence/{koios_run,standstill_test}.py "$out/tests/equivalence/"
cp tests/interop/{nonfinite_test,koios_file,tool_run}.py "$out/tests/interop/"

cat >"$out/run" <<'RUN'
#!/usr/bin/env bash
# run [mpirun options] PROGRAM [arguments]: PROGRAM of this folder's bin/, by name or path, under the
# machine's mpirun.
# Only the ranks see the carried libraries. KOIOS_LIBRARIES: further folders, for NCCL, cuBLAS, cuDNN
# where the loader does not find them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
options=() program=
while [[ $# -gt 0 && -z $program ]]; do
  if [[ -x $here/bin/${1##*/} ]]; then program=$here/bin/${1##*/}; else options+=("$1"); fi
  shift
done
[[ -n $program ]] || { echo "error: none of $(ls "$here/bin" | tr '\n' ' ')was named" >&2; exit 2; }
((EUID != 0)) || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
forward=(-x "LD_LIBRARY_PATH=$here/lib${KOIOS_LIBRARIES:+:$KOIOS_LIBRARIES}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}")
for name in $(compgen -e | grep -E '^(NCCL_|OMP_|KOIOS_|CUDA_|CUBLAS|CUDNN)' || true); do
  forward+=(-x "$name")
done
exec mpirun --bind-to none "${forward[@]}" "${options[@]}" "$program" "$@"
RUN
cat >"$out/gpu_tests" <<'TESTS'
#!/usr/bin/env bash
# Every test program of this folder on one GPU, those of communication and training also on two and
# four, where there are as many: over copy engines and over NCCL. Then koios with ranks that are
# stopped, killed and slow, that call different things, and with numbers that are not finite.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export KOIOS_GOLDEN_DIR=$here/golden
passed=0 failed=0
check() { # RANKS PROGRAM
  if "$here/run" -np "$1" "$2" --gtest_brief=1; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}
gpus=$(nvidia-smi -L | wc -l)
for program in "$here"/bin/*_test; do
  name=$(basename "$program")
  echo "=== $name"
  check 1 "$name"
  more=()
  case $name in
    communicator* | train_llama*) more=(2 4) ;;
    train_recompute*) more=(2) ;;
  esac
  for ranks in "${more[@]}"; do ((gpus < ranks)) || check "$ranks" "$name"; done
done
export KOIOS_MPIEXEC=$here/run KOIOS_BINARY=$here/bin/koios KOIOS_SOURCE_DIR=$PWD
script() { # FILE [arguments]
  echo "=== $*"
  python3 "$here/tests/$1" "${@:2}"
  case $? in
    0) passed=$((passed + 1)) ;;
    77) ;; # skipped, and it has said why
    *) failed=$((failed + 1)) ;;
  esac
}
for transport in copy_engine nccl; do
  export KOIOS_TEST_ENTRIES="comm/shard_transport=$transport"
  ((gpus < 2)) || [[ ! -x $here/bin/watchdog_probe ]] \
    || script comm/watchdog_test.py "$here/bin/watchdog_probe" "$here/run" "$transport"
  for ranks in 2 4; do
    ((gpus < ranks)) || KOIOS_TEST_RANKS=$ranks script interop/nonfinite_test.py
    ((gpus < ranks)) || KOIOS_TEST_RANKS=$ranks script equivalence/standstill_test.py
  done
done
echo "$passed passed, $failed failed"
((failed == 0))
TESTS
chmod +x "$out/run" "$out/gpu_tests"
echo "bundled into $out: $(du -sh "$out" | cut -f1), $(ls "$out/lib" | wc -l) libraries, programs: $(ls "$out/bin" | tr '\n' ' ')"
