#!/bin/sh
# Sets up the software GPU, once: Mesa's Vulkan driver for CPUs (lavapipe) and the libraries it needs, from Debian 13,
# unpacked into a folder of the cache with nothing installed and no root, and a copy of node bound to those libraries.
# Usage: software-gpu.sh NODE. Prints `ROOT<TAB>NODE_COPY`; progress goes to stderr.
# With QDORA_VULKAN_DRIVERS=all a second folder keeps Mesa's drivers for real GPUs too, which gpu_table.sh compiles with.
set -eu

suite=trixie
recipe=1 # counts up when the way the folder is made changes
packages="mesa-vulkan-drivers/$suite-backports libvulkan1 libc6 libstdc++6 libgcc-s1"

say() { printf 'qdora: software GPU: %s\n' "$*" >&2; }

# fail FACT HINT
fail() {
  printf 'error: gpu: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}

# What a machine without the pieces for this should install instead.
refuse() {
  case "$(uname -s) $(sed -n 's/^ID\(_LIKE\)\{0,1\}=//p' /etc/os-release 2>/dev/null | tr -d '"' | tr '\n' ' ')" in
    Linux*fedora* | Linux*rhel*) how="sudo dnf install mesa-vulkan-drivers vulkan-loader" ;;
    Linux*arch*) how="sudo pacman -S vulkan-swrast vulkan-icd-loader" ;;
    Linux*suse*) how="sudo zypper install libvulkan_lvp libvulkan1" ;;
    Linux*debian* | Linux*ubuntu*)
      how="sudo apt-get install mesa-vulkan-drivers libvulkan1 (Debian 13, Ubuntu 24.04 or newer), or on older ones \`debian-archive-keyring\` and QDORA_DEBIAN_MIRROR=URL"
      ;;
    Linux*) how="install Mesa's lavapipe (24 or newer) and the Vulkan loader with the system's package manager" ;;
    *) how="a software GPU can be set up on Linux only; elsewhere a real GPU is needed" ;;
  esac
  fail "no GPU here, and the software GPU cannot be set up: $1" "$how"
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
node=$1

# --- where it lies -------------------------------------------------------------------------------------------------

cache=${QDORA_CACHE:-}
if [ -z "$cache" ]; then
  [ -n "${XDG_CACHE_HOME:-}${HOME:-}" ] || fail "neither QDORA_CACHE nor HOME is set" "QDORA_CACHE=FOLDER says where the software GPU may lie"
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/qdora
fi
case $cache in
  /*) ;;
  *) cache=$PWD/$cache ;;
esac
root=$cache/software-gpu-$suite-$recipe
[ "${QDORA_VULKAN_DRIVERS:-}" != all ] || root=$cache/all-gpus-$suite-$recipe
version=$("$node" -p process.version)
copies=$root/node
copy=$copies/$version-$(wc -c <"$node" | tr -d ' ')/node

# A copy holds absolute paths: `bound-to` names the root it was made for, so that a moved cache is noticed.
is_ready() {
  [ -x "$copy" ] && [ "$(cat "${copy%/*}/bound-to" 2>/dev/null)" = "$root" ]
}

finish() {
  printf '%s\t%s\n' "$root" "$copy"
  exit 0
}

case $node in
  "$copies"/*) copy=$node && finish ;; # started by a node that is already bound
esac
! is_ready || finish

# --- one at a time -------------------------------------------------------------------------------------------------

[ "$(uname -s)" = Linux ] || refuse "this is $(uname -s)"
for tool in apt-get dpkg dpkg-deb flock; do
  command -v "$tool" >/dev/null 2>&1 || refuse "$tool is missing"
done
arch=$(dpkg --print-architecture)
case $arch in
  amd64 | arm64) ;;
  *) refuse "the WebGPU package has no build for $arch" ;;
esac

mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] ||
  fail "cannot write to the cache folder $cache" "QDORA_CACHE=FOLDER says where the software GPU may lie"

# The kernel frees this lock when its holder dies, whatever the way.
exec 9>"$cache/software-gpu.lock"
if ! flock -n 9; then
  say "waiting for another process that is setting it up"
  flock -w 1800 9 || fail "waited 30 minutes for another process that is setting up the software GPU" "end that process and start again"
  ! is_ready || finish
fi

started=$(date +%s)
work=$cache/software-gpu.tmp # only the holder of the lock touches it; what an interrupted run left goes first
log=$cache/software-gpu.log
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
export LC_ALL=C

# --- the machine's Debian mirror -----------------------------------------------------------------------------------

# Prints `RANK<TAB>URI<TAB>KEYRING<TAB>TRUSTED` for each source that looks like a Debian archive, from both kinds of files.
list_mirrors() {
  list=/etc/apt/sources.list
  parts=/etc/apt/sources.list.d
  eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d 2>/dev/null)"
  parts=${parts%/}
  for file in "$list" "$parts"/*.list; do
    [ ! -f "$file" ] || sed 's/#.*//' "$file" | awk '
      $1 == "deb" {
        signed = trusted = ""
        if (match($0, /\[[^]]*\]/)) {
          n = split(substr($0, RSTART + 1, RLENGTH - 2), option, /[ \t]+/)
          for (i = 1; i <= n; i++) {
            if (option[i] ~ /^signed-by=\//) signed = substr(option[i], 11)
            if (option[i] == "trusted=yes") trusted = "yes"
          }
          $0 = substr($0, 1, RSTART - 1) " " substr($0, RSTART + RLENGTH)
        }
        printf "%s\t%s\t%s\t%s\n", $2, $3, signed, trusted
      }'
  done
  for file in "$parts"/*.sources; do
    [ ! -f "$file" ] || sed '/^#/d' "$file" | awk '
      function flush(   i, j, n, m, uri, suites) {
        if (value["types"] ~ /(^| )deb( |$)/ && tolower(value["enabled"]) !~ /no|false|off|0/) {
          n = split(value["uris"], uri, " ")
          m = split(value["suites"], suites, " ")
          for (i = 1; i <= n; i++) for (j = 1; j <= m; j++)
            printf "%s\t%s\t%s\t%s\n", uri[i], suites[j], value["signed-by"] ~ /^ *\// ? value["signed-by"] : "", tolower(value["trusted"])
        }
        split("", value)
      }
      /^[ \t]*$/ { flush(); next }
      /^[ \t]/ { value[field] = value[field] " " $0; next }
      { at = index($0, ":"); field = tolower(substr($0, 1, at - 1)); value[field] = substr($0, at + 1) }
      END { flush() }'
  done
}

# Debian's own archives first (those with an -updates or -backports suite), then others that use Debian's suite names.
rank_mirrors() {
  if [ -n "${QDORA_DEBIAN_MIRROR:-}" ]; then
    printf '%s\t\t\n' "$QDORA_DEBIAN_MIRROR"
    return
  fi
  list_mirrors | awk -F '\t' '
    $2 ~ /^(buster|bullseye|bookworm|trixie|forky|duke|sid|(old)*stable|testing|unstable)(-updates|-backports)?$/ {
      gsub(/ /, "", $3)
      rank = $2 ~ /-/ ? 0 : 1
      if (!($1 in best) || rank < best[$1]) best[$1] = rank
      rest[$1] = $3 "\t" $4
      if (!($1 in order)) { order[$1] = ++count; name[count] = $1 }
    }
    END { for (r = 0; r < 2; r++) for (i = 1; i <= count; i++) if (best[name[i]] == r) print name[i] "\t" rest[name[i]] }'
}

archive_keys() {
  for file in /usr/share/keyrings/debian-archive-keyring.pgp /usr/share/keyrings/debian-archive-keyring.gpg; do
    [ ! -r "$file" ] || { printf '%s' "$file" && return; }
  done
}

# --- packages through apt, with a state of its own --------------------------------------------------------------------

# The machine's settings (proxy, credentials) hold; its hooks, pins and package state do not.
write_apt_conf() {
  mkdir -p "$work/apt/state/lists/partial" "$work/apt/cache/archives/partial"
  : >"$work/apt/status"
  cat >"$work/apt/apt.conf" <<CONF
#clear APT::Update;
#clear APT::Architectures;
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Default-Release "$suite";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Dir::State "$work/apt/state";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt/cache";
Dir::Etc::sourcelist "$work/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
CONF
}

# download URI KEYRING TRUSTED: fetches the packages, signatures checked by apt.
download() {
  keys=$(archive_keys)
  if [ -n "$2" ] && [ "$2" != "$keys" ]; then
    keys=${keys:+$keys,}$2
  fi
  options="arch=$arch target=Packages${keys:+ signed-by=$keys}"
  [ "$3" != yes ] || options="$options trusted=yes"
  for part in "$suite" "$suite-updates" "$suite-backports"; do
    printf 'deb [%s] %s %s main\n' "$options" "$1" "$part"
  done >"$work/apt/sources.list"
  say "reading package lists of Debian $suite from $1"
  apt-get -c "$work/apt/apt.conf" update >>"$log" 2>&1 || return 1
  # shellcheck disable=SC2086 # a list of words
  set -- $packages
  size=$(apt-get -c "$work/apt/apt.conf" -y --print-uris install "$@" 2>>"$log" | sed -n 's/^Need to get \(.*\) of archives.*/\1/p')
  say "downloading packages${size:+ ($size)}"
  apt-get -c "$work/apt/apt.conf" -y --download-only install "$@" >>"$log" 2>&1
}

# The last errors of apt, on one line.
last_errors() {
  sed -n 's/^[EW]: *//p' "$log" | tail -n 2 | cut -c 1-200 | tr '\n' ' '
}

build_root() {
  mkdir -p "$work/root"
  : >"$log"
  write_apt_conf
  rank_mirrors >"$work/mirrors"
  [ -s "$work/mirrors" ] || refuse "the apt sources name no Debian mirror"
  got=
  while IFS= read -r line; do
    uri=${line%%	*}
    line=${line#*	}
    if download "$uri" "${line%%	*}" "${line#*	}" </dev/null; then
      got=yes
      break
    fi
  done <"$work/mirrors"
  [ -n "$got" ] || fail "the packages of the software GPU could not be fetched: $(last_errors)" \
    "check the network and the apt sources, then start again (apt's own words: $log)"

  say "unpacking"
  for deb in "$work"/apt/cache/archives/*.deb; do
    dpkg-deb -x "$deb" "$work/root" >>"$log" 2>&1 || fail "cannot unpack ${deb##*/}" "is the disk full? (see $log)"
  done
  trim "$work/root"
  chmod -R u+w,a+rX "$work/root"
  # A root that exists is complete: what stands there now is of another place or was damaged.
  rm -rf "$root"
  mv "$work/root" "$root"
}

# Leaves the lavapipe driver, libraries and the packages' licences.
trim() {
  if [ "${QDORA_VULKAN_DRIVERS:-}" != all ]; then
    find "$1/usr/lib" -name 'libvulkan_*.so' ! -name 'libvulkan_lvp.so' -delete
    find "$1/usr/share/vulkan" -name '*.json' ! -name 'lvp_icd*.json' -delete
  fi
  find "$1/usr/share/doc" -type f ! -name copyright -delete
  rm -rf "$1"/usr/lib/*/gconv "$1"/usr/share/man "$1"/usr/share/locale "$1"/usr/share/lintian "$1"/usr/share/bug "$1"/usr/share/info
}

# --- a node bound to those libraries ----------------------------------------------------------------------------------

bind_node() {
  say "binding a copy of node $version to it"
  for loader in "$root"/usr/lib/*/ld-linux*.so.*; do
    [ -x "$loader" ] || fail "$root has no program loader" "remove that folder and start again"
  done
  mkdir -p "$work/node"
  "$node" "$here/bind-elf.mjs" "$node" "$work/node/node" "$loader" "${loader%/*}" >>"$log" 2>&1 ||
    fail "cannot bind a copy of $node: $(tail -n 1 "$log")" "use a node from nodejs.org"
  answer=$("$work/node/node" -p process.version 2>>"$log") || answer=
  [ "$answer" = "$version" ] || fail "node $version does not run with Debian $suite's libraries: $(tail -n 1 "$log")" "use a node from nodejs.org"
  printf '%s\n' "$root" >"$work/node/bound-to"
  mkdir -p "$copies"
  rm -rf "${copy%/*}"
  mv "$work/node" "${copy%/*}"
}

if [ ! -d "$root/usr" ]; then
  build_root
fi
mkdir -p "$work"
bind_node
say "ready after $(($(date +%s) - started)) s, $(du -sm "$root" 2>/dev/null | cut -f 1) MB in $root"
finish
