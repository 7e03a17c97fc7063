#!/bin/sh
# Runs COMMAND with a working GPU: the machine's own where Dawn accepts one, else the software GPU of software-gpu.sh.
# It execs the command: folder, streams, exit code and signals are the caller's; messages go to stderr only.
set -eu

usage() {
  cat >&2 <<'TEXT'
usage: scripts/with-gpu.sh [--wide] COMMAND [ARGUMENT...]

  --wide         a software GPU takes vectors of 512 bits where the processor has them: some 1.4 times the speed, but
                 without matrix units (LP_NATIVE_VECTOR_WIDTH overrides it)

Environment:
  QDORA_ADAPTER  software: always the software GPU; hardware: only a real GPU; or a part of a GPU's name or vendor.
                 Unset: the machine's own GPU where WebGPU accepts one, else the software GPU.
  QDORA_CACHE    where the software GPU lies (default ~/.cache/qdora)
TEXT
  exit 2
}

say() { printf 'qdora: %s\n' "$*" >&2; }

# fail FACT [HINT]
fail() {
  printf 'error: gpu: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
  exit 1
}

# Sets `kind` (hardware, software, none or unknown) and `name` from the machine's own GPU stack; $1: a part of its name.
probe() {
  answer=$("$node" "$here/probe-adapter.mjs" "$1" </dev/null 2>/dev/null) || answer="none	the probe did not finish"
  kind=${answer%%	*}
  name=${answer#*	}
}

# The GPU's memory is the process's own then. glibc's malloc would keep what compiling shaders leaves free, for each thread.
few_heaps() {
  MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX:-1}
  MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:-131072}
  MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-131072}
  export MALLOC_ARENA_MAX MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_
}

# lavapipe itself takes no more than 256 bits, and its matrices crash with others.
wide_vectors() {
  ! grep -qw avx512f /proc/cpuinfo 2>/dev/null || export LP_NATIVE_VECTOR_WIDTH="${LP_NATIVE_VECTOR_WIDTH:-512}"
}

# Makes node, npm, npx and everything they start see the software GPU.
use_software_gpu() {
  found=$(sh "$here/software-gpu.sh" "$node" </dev/null) || exit 1
  root=${found%%	*}
  copy=${found#*	}
  for icd in "$root"/usr/share/vulkan/icd.d/lvp_icd*.json; do
    VK_DRIVER_FILES=$icd
  done
  # Small parts of what lavapipe keeps have names that do not tell the width.
  MESA_SHADER_CACHE_DIR=${MESA_SHADER_CACHE_DIR:-${root%/*}/shader-cache${LP_NATIVE_VECTOR_WIDTH:+-$LP_NATIVE_VECTOR_WIDTH}}
  VK_LOADER_LAYERS_DISABLE='~implicit~' # layers of the machine are built for the machine's own libraries
  QDORA_SOFTWARE_GPU=1
  PATH=${copy%/*}:$PATH
  few_heaps
  export VK_DRIVER_FILES MESA_SHADER_CACHE_DIR VK_LOADER_LAYERS_DISABLE QDORA_SOFTWARE_GPU PATH
}

# Whether a with-gpu.sh further out has set it up already.
has_software_gpu() { [ "${QDORA_SOFTWARE_GPU:-}" = 1 ] && [ -f "${VK_DRIVER_FILES:-}" ]; }

# Where Debian packages cannot be unpacked, a recent lavapipe of the system does.
use_system_lavapipe() {
  ! command -v apt-get >/dev/null 2>&1 || return 1
  for icd in /usr/share/vulkan/icd.d/lvp_icd*.json; do
    VK_DRIVER_FILES=$icd
  done
  export VK_DRIVER_FILES
  probe llvmpipe
  [ "$kind" = software ] || return 1
  few_heaps
}

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage ;;
    --wide) wide_vectors ;;
    --)
      shift
      break
      ;;
    *) break ;;
  esac
  shift
done
[ $# -gt 0 ] || usage

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
node=$(node -p process.execPath </dev/null 2>/dev/null) || fail "node is not found" "install Node.js 20 or newer"

wanted=${QDORA_ADAPTER:-}
case $(printf '%s' "$wanted" | tr '[:upper:]' '[:lower:]') in
  *llvmpipe*) wanted=software ;;
esac

copy=
case $wanted in
  software)
    has_software_gpu || use_system_lavapipe || use_software_gpu
    ;;
  '')
    if ! has_software_gpu; then
      probe ''
      case $kind in
        hardware) ;;
        software) few_heaps ;;
        unknown)
          say "the machine's own GPU cannot be looked for before \`npm ci\`; taking the software GPU"
          use_software_gpu
          ;;
        *)
          for file in /dev/nvidia[0-9]* /dev/dri/renderD* /dev/dxg; do
            [ ! -e "$file" ] || { say "$file is there, but WebGPU sees no GPU: is its Vulkan driver or libvulkan1 missing?" && break; }
          done
          use_software_gpu
          ;;
      esac
    fi
    ;;
  *)
    probe "$wanted"
    case $kind in
      software) few_heaps ;;
      unknown) fail "GPUs cannot be looked for, the package webgpu is not installed" "npm ci --ignore-scripts" ;;
      none)
        fail "no GPU of this machine fits QDORA_ADAPTER=$wanted ($name)" \
          "QDORA_ADAPTER=software needs no GPU; a real one needs its Vulkan driver and libvulkan1"
        ;;
    esac
    ;;
esac

# A path to node itself would go past PATH.
if [ -n "$copy" ]; then
  case $1 in
    */*) if [ "$1" -ef "$node" ]; then
      shift
      exec "$copy" "$@"
    fi ;;
  esac
fi
exec "$@"
