#!/usr/bin/env bash
# Builds program.wasm from program.c: build.sh [OUTPUT]. The same compiler gives the same bytes.
# Needs Debian's clang, lld, wasi-libc and libclang-rt-14-dev-wasm32.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
output=$(realpath -m "${1:-$here/program.wasm}")
cd "$here"
clang --target=wasm32-wasi --sysroot=/usr -std=c11 -O2 -Wall -Wextra -Werror \
    -Wl,--strip-all -Wl,--stack-first -Wl,-z,stack-size=65536 -o "$output" program.c
chmod 644 "$output"
