#!/usr/bin/env bash
# Installs what a make target needs and this machine lacks, and says so:
#
#	tests/setup.sh demo|test|bench|lint
#
# Packages come from apt-get. Services that Debian starts on installation are
# neither started nor enabled. Go tools go to .cache/bin, nowhere else.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/.cache/bin
mkdir -p "$tools"

demo=(busybox-static ca-certificates docker-registry iproute2 openssl procps redis-server redis-tools skopeo util-linux)
tests=("${demo[@]}" gnupg jq libc-bin nginx strace umoci)
bench=("${tests[@]}" crun podman runc)

case ${1:-} in
demo) packages=("${demo[@]}") programs=(cosign3) ;;
test) packages=("${tests[@]}") programs=(cosign3 cosign2) ;;
bench) packages=("${bench[@]}") programs=() ;;
lint) packages=() programs=(golangci-lint) ;;
*) echo "usage: tests/setup.sh demo|test|bench|lint" >&2; exit 2 ;;
esac

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# services PACKAGE: the units that its installation enables
services() { case $1 in redis-server | nginx | docker-registry) echo "$1" ;; podman) echo podman.socket podman.service podman-auto-update.timer podman-restart.service ;; esac; }

# policy-rc.d is how Debian asks whether a service may start during installation.
guard=/usr/sbin/policy-rc.d
forbid_services() {
	if [ -e $guard ] || [ -L $guard ]; then as_root mv $guard $guard.before-rkt; fi
	printf '#!/bin/sh\nexit 101\n' | as_root tee $guard >/dev/null
	as_root chmod 755 $guard
	trap allow_services EXIT
}
allow_services() {
	as_root rm -f $guard
	if [ -e $guard.before-rkt ] || [ -L $guard.before-rkt ]; then as_root mv $guard.before-rkt $guard; fi
	trap - EXIT
}

install_packages() {
	local missing=() p
	for p in "${packages[@]}"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "setup: installing with apt-get: ${missing[*]}"
	forbid_services
	local quiet=(-qq -o Dpkg::Use-Pty=0)
	as_root apt-get "${quiet[@]}" update
	as_root env DEBIAN_FRONTEND=noninteractive apt-get "${quiet[@]}" install -y --no-install-recommends "${missing[@]}" >"$tools/../apt.log" 2>&1 ||
		{ cat "$tools/../apt.log" >&2; exit 1; }
	allow_services
	if command -v systemctl >/dev/null; then
		for p in "${missing[@]}"; do
			for s in $(services "$p"); do as_root systemctl disable --quiet "$s" 2>/dev/null || true; done
		done
	fi
}

# go_tool NAME VERSION MODULE COMMAND…: uses NAME from .cache/bin or PATH when
# COMMAND prints that version, else builds it.
go_tool() {
	local name=$1 version=$2 module=$3 found temp; shift 3
	for found in "$tools/$name" "$(command -v "$name" || true)"; do
		if [ -x "$found" ] && "$found" "$@" 2>&1 | grep -qF "${version#v}"; then
			[ "$found" = "$tools/$name" ] || ln -sf "$found" "$tools/$name"
			return 0
		fi
	done
	echo "setup: building $module@$version (takes some minutes the first time)"
	temp=$(mktemp -d "$tools/build.XXXXXX")
	GOBIN=$temp CGO_ENABLED=0 go install "$module@$version" 2>"$tools/../$name.log" || { cat "$tools/../$name.log" >&2; exit 1; }
	mv "$temp"/* "$tools/$name"
	rmdir "$temp"
}

if [ ${#packages[@]} -gt 0 ]; then
	if ! command -v apt-get >/dev/null; then
		echo "setup: this is no Debian: make sure that the programs of these packages are there: ${packages[*]}" >&2
	else
		install_packages
	fi
fi
for program in "${programs[@]}"; do
	case $program in
	cosign3) go_tool cosign3 v3.1.3 github.com/sigstore/cosign/v3/cmd/cosign version ;;
	cosign2) go_tool cosign2 v2.6.5 github.com/sigstore/cosign/v2/cmd/cosign version ;;
	golangci-lint) go_tool golangci-lint v2.1.6 github.com/golangci/golangci-lint/v2/cmd/golangci-lint version ;;
	esac
done
