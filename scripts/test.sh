#!/usr/bin/env bash
# Runs the tests (all, or the files given) through tap, shows a line for each
# file and everything about a failure, and ends with "N passed, N failed".
# The complete TAP is in build/test.tap.
set -uo pipefail
cd "$(dirname "$0")/.."

scripts/require.sh root btf kernel || { echo "0 passed, 1 failed"; exit 1; }

report=build/test.tap
# The proof that nothing is left behind comes after everything else.
last=test/leftovers.test.ts
mkdir -p build
: >$report

# run REPORT ARGUMENT...: a line for each file, and all about what failed. The TAP is added to REPORT.
run() {
  local to=$1
  shift
  node_modules/.bin/tap --reporter=tap "$@" | tee -a "$to" | awk '
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
  run $report "$@"
  failed=$?
else
  # What guards containers waits a lot: two files go on at a time. The rest compiles C++, or waits for
  # time-outs: it goes on beside them. An emulated machine comes last there, when there is nothing else to do.
  guarding=(test/bypass test/contract test/hostile test/kernel test/demo.test.ts)
  mapfile -t files < <(find "${guarding[@]}" -name '*.test.ts' | sort)
  emulated=(test/kernels/smoke.test.ts)
  mapfile -t others < <(find test -name '*.test.ts' |
    grep -vxFf <(printf '%s\n' "${files[@]}" "${emulated[@]}" "$last") | sort)
  : >build/others.tap
  {
    run build/others.tap --jobs=1 "${others[@]}"
    status=$?
    run build/others.tap "${emulated[@]}" && exit $status
  } >build/others.txt &
  run $report --jobs=2 "${files[@]}"
  failed=$?
  wait $! || failed=1
  cat build/others.txt
  cat build/others.tap >>$report
  run $report "$last" || failed=1
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
