#!/usr/bin/env bash
# Runs every test: vet, each fuzz target for a few seconds, the tests of the
# failpoint build, then all tests. The last lines are those of go test.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.cache/bin:$PATH
fuzz_time=${FUZZ_TIME:-5s}

# Root is what the scripts are about; without it, ask for it once, by name.
exec_with=()
if [ "$(id -u)" != 0 ]; then
	echo "test: running the tests as root with sudo"
	exec_with=(-exec "sudo -E env PATH=$PATH HOME=$HOME")
fi

echo "test: go vet"
go vet ./...
go vet -tags failpoint ./...

echo "test: fuzzing, $fuzz_time each"
fuzz_failed=0
fuzz_log=$(mktemp)
trap 'rm -f "$fuzz_log"' EXIT
while read -r pkg target; do
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzz_time" "$pkg" >"$fuzz_log" 2>&1 && continue
	# Until Go 1.27 the end of the time itself may be taken for a failure (go.dev/issue/75804);
	# an input that fails is always written down.
	if grep -q 'context deadline exceeded' "$fuzz_log" && ! grep -q 'Failing input' "$fuzz_log"; then continue; fi
	echo "test: fuzz target $target of $pkg failed:"
	cat "$fuzz_log"
	fuzz_failed=1
done < <(grep -rhoE --include='*_test.go' -H '^func Fuzz[A-Za-z0-9_]*' . | sed -E 's|/[^/]*:func | |')
[ "$fuzz_failed" = 0 ]

# Packages with a test that only the failpoint build has.
killed=$(grep -rlE --include='*_test.go' '^//go:build .*failpoint' . | xargs -r -n1 dirname | sort -u)
if [ -n "$killed" ]; then
	echo "test: the failpoint build"
	# shellcheck disable=SC2086 # one word per package
	go test "${exec_with[@]}" -count=1 -timeout 15m -tags failpoint $killed
fi

echo "test: all"
RKT_TESTS=all go test "${exec_with[@]}" -count=1 -timeout 35m ./...
