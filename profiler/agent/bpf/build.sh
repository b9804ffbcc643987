#!/bin/sh
# Rebuilds the kernel object from its C sources. Needs clang (14 or newer) and llvm-strip; a plain
# `cargo build` does not, because the result is in the repository.
#
#     profiler/agent/bpf/build.sh [OUTPUT]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
output=$(realpath -m "${1:-$here/spanprof.bpf.o}")
# The compiler puts source lines into the object where it finds the files by their shortened names, which is from here
# alone; from elsewhere the object would be another.
cd "$here/.."
find_tool() {
    for name in "$1" "$1-19" "$1-18" "$1-17" "$1-16" "$1-15" "$1-14"; do
        command -v "$name" && return
    done
    echo "build.sh: no $1 found; on Debian: apt-get install clang llvm" >&2
    exit 1
}
clang=$(find_tool clang)
strip=$(find_tool llvm-strip)
"$clang" -target bpf -mcpu=v3 -D__TARGET_ARCH_x86 -O2 -g -Wall -Wextra -Werror \
    -Wno-unused-parameter -Wno-unused-const-variable -Wno-unused-function \
    -ffile-prefix-map="$here"=bpf -c "$here/spanprof.bpf.c" -o "$output"
"$strip" -g "$output"
