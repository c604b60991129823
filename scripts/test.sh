#!/usr/bin/env bash
# Runs the tests (all, or the files given) through tap, shows a line for each
# file and everything about a failure, and ends with "N passed, N failed".
# The complete TAP is in build/test.tap.
set -uo pipefail
cd "$(dirname "$0")/.."

scripts/require.sh root btf kernel || { echo "0 passed, 1 failed"; exit 1; }

report=build/test.tap
# One after the other, after everything else: an emulated machine, which needs a processor for itself, and the proof
# that nothing is left behind.
last=(test/kernels/smoke.test.ts test/leftovers.test.ts)
mkdir -p build
: >$report

# A line for each file, and all about what failed.
run() {
  node_modules/.bin/tap --reporter=tap "$@" | tee -a $report | awk '
    /^(ok|not ok) /              { print }
    /^ +not ok /                 { print }
    /^ *not ok /                 { failed = 1; next }
    failed && /^ *---$/          { block = 1 }
    block                        { print }
    block && /^ *\.\.\.$/        { block = 0 }
    /^ *ok /                     { failed = 0 }
    /^Bail out!/                 { print }
  '
}

if [ $# -gt 0 ]; then
  run "$@"
  failed=$?
else
  # Most wait more than they work, so three go on at a time, also on two processors. Each has its own containers,
  # daemon, ports and directories. tap goes through them by name: what takes longest is called so that it is among the
  # first, and nothing is left to wait for alone (test/addon, arm64, bypass).
  mapfile -t files < <(find test -name '*.test.ts' | grep -vxFf <(printf '%s\n' "${last[@]}"))
  run --jobs=3 "${files[@]}"
  failed=$?
  for file in "${last[@]}"; do run "$file" || failed=1; done
fi

# What failed, once more and in one place: its file, its tests, and why.
awk '
  /^# Subtest: /             { file = $0; sub(/^# Subtest: /, "", file) }
  /^ +not ok / && !/# (SKIP|TODO)/ { if (file != said) print "\nFAILED: " file; said = file; print; failed = 1; next }
  failed && /^ *---$/        { block = 1 }
  block                      { print }
  block && /^ *\.\.\.$/      { block = 0; failed = 0 }
  /^ *ok /                   { failed = 0 }
' $report

# tap ends each run with "# { total: 3, pass: 2, fail: 1, skip: 1 }".
awk -v broken=$failed '
  /^# \{ total: / {
    for (i = 1; i <= NF; ++i) if ($i ~ /^(total|pass|fail|skip|todo):$/) count[$i] += $(i + 1)
  }
  END {
    failures = count["fail:"] + count["todo:"]
    if (broken && failures == 0) failures = 1   # tap itself failed
    line = sprintf("%d passed, %d failed", count["pass:"], failures)
    if (count["skip:"] > 0) line = line sprintf(", %d skipped", count["skip:"])
    print line
    exit failures > 0
  }' $report
