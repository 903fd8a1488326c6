#!/bin/sh
# Runs a benchmark under perf and leaves, in bench/build/profile: perf.data,
# report.txt (where the time goes, with stacks), stacks.folded and flame.svg.
#
#     bench/profile.sh [engine [DEPTH] | command]
set -eu
cd "$(dirname "$0")/.."

what=${1:-engine}
depth=${2:-32}
out=bench/build/profile
mkdir -p "$out"

command -v perf >/dev/null || { echo "profile: perf is not installed" >&2; exit 1; }
# cpu-clock needs no hardware counters, which virtual machines often lack. Go
# keeps frame pointers, so -g walks whole stacks.
perf="perf record -q -e cpu-clock -g -F 1999 -o $out/perf.data --"

case $what in
engine)
	go run ./bench/run engine -under "$perf" -only /hotlap -depths "$depth" -rounds 1 -duration 5s -name local-profile
	;;
command)
	go run ./bench/run command -under "$perf" -rounds 1 -name local-profile
	;;
*)
	echo "usage: bench/profile.sh [engine [DEPTH] | command]" >&2
	exit 2
	;;
esac

# --no-inline: expanding inlined calls starts addr2line for every address.
{
	echo "Self time by function:"
	perf report -i "$out/perf.data" --stdio --no-inline --no-children -g none --percent-limit 0.3
	echo "Time by call path:"
	perf report -i "$out/perf.data" --stdio --no-inline --children -g caller,0.5,callee --percent-limit 2
} >"$out/report.txt" 2>/dev/null
perf script --no-inline -F comm,ip,sym,dso -i "$out/perf.data" 2>/dev/null |
	go run ./bench/flame -folded "$out/stacks.folded" -title "hotlap, $what" >"$out/flame.svg"

grep -v '^#' "$out/report.txt" | grep -v '^$' | head -25
echo "profile: $out/report.txt, $out/flame.svg, $out/stacks.folded, $out/perf.data"
