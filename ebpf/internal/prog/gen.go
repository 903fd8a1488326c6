package prog

//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target amd64,arm64 -type example observe bpf/observe.c -- -O2 -g -Wall -Werror -mcpu=v2
