#!/usr/bin/env bash
# Builds the programs as they are shipped, laid out for what requests execute
# most (docs/decisions/0013-profile-guided-release.md):
#
#   1. programs that count what they execute
#   2. the short version of the benchmark's cases through them
#   3. the programs proper, in target/HOST/release
#
# Idempotent: counts are taken again when the counting programs have changed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Cases that move bytes. What none of them reaches is compiled for size.
readonly cases=(
    mesh-http mesh-http2 mesh-grpc mesh-tcp mesh-l4 mesh-l7
    edge-http edge-https edge-https-new edge-http2 edge-grpc edge-grpc-stream
    edge-large edge-routes-1000
)

host=$(rustc -vV | sed -n 's/^host: //p')
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
readonly host target
readonly training=$target/training
readonly counting=$training/$host/release
readonly profile=$training/requests.profdata
# Written when a program ends; those of the same program are added up.
readonly counters=$training/counters

say() { printf 'release: %s\n' "$*" >&2; }

# Naming the target keeps the flags from programs that run while others are built.
build() {
    RUSTFLAGS="${RUSTFLAGS:-} $1" cargo build --release --workspace --bins --target "$host" --target-dir "$2"
}

find_profdata() {
    profdata=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
    [[ -x $profdata ]] && return
    command -v rustup >/dev/null || {
        say "llvm-profdata of this Rust is missing: install its component llvm-tools"
        exit 1
    }
    rustup component add llvm-tools
}

# A program that does not end when it is told to would hold up the rest for ever.
train() {
    say "running ${#cases[@]} cases through the counting programs"
    rm -rf "$counters"
    LLVM_PROFILE_FILE=$counters/%m.profraw timeout 15m "$counting/bench" --smoke --results "$training" "${cases[@]}" >&2
    "$profdata" merge --output "$profile" "$counters"
}

find_profdata
say "building the counting programs"
build "-Cprofile-generate=$training" "$training"
if [[ $profile -nt $counting/gateway && $profile -nt $counting/meshd ]]; then
    say "their counts stand"
else
    train
fi
say "building the programs"
build "-Cprofile-use=$profile" "$target"
say "gateway, meshd and meridian are in $target/$host/release"
