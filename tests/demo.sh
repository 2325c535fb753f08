#!/usr/bin/env bash
# The demo: a real server from a signed image in a real registry, as a pod.
#
# Everything is below one temporary directory and on loopback; at the end, or
# when it is interrupted, nothing of it is left.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.cache/bin:$PATH

make -s build
go build -o .cache/bin/mkimage ./tests/images/mkimage
if [ "$(id -u)" != 0 ]; then
	echo "demo: running pods needs root: going on with sudo"
	exec sudo env PATH="$PATH" "$0"
fi

demo=$(mktemp -d -t rkt-demo.XXXXXX)
registry= pod= made_run=
[ -d /run/rkt ] || made_run=yes
cleanup() {
	set +e
	[ -z "$pod" ] || { kill "$pod"; wait "$pod"; } 2>/dev/null
	[ -z "$registry" ] || { kill "$registry"; wait "$registry"; } 2>/dev/null
	[ ! -d "$demo/rkt" ] || rkt gc --grace-period=0s >/dev/null 2>&1
	rm -rf "$demo"
	[ -z "$made_run" ] || rmdir /run/rkt
}
trap cleanup EXIT
trap 'exit 130' INT TERM

bold='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
# show COMMAND: prints it as one would type it, then runs it
show() {
	printf '%s$ %s%s\n' "$bold" "${*//$demo/\$DEMO}" "$plain"
	"$@" 2>&1 | sed -e "s|$demo|\$DEMO|g" -e '/^WARNING: Could not fetch trusted_root/d'
	return "${PIPESTATUS[0]}"
}
# until_true COMMAND: waits for something that happens soon
until_true() {
	local i
	for i in $(seq 300); do if "$@" >/dev/null 2>&1; then return 0; fi; sleep 0.1; done
	echo "demo: '$*' did not come true in 30 s" >&2
	return 1
}

bin=$PWD/bin
rkt() { "$bin/rkt" --dir="$demo/rkt" --local-config="$demo/etc" --system-config="$demo/usr" "$@"; }
mkdir -p "$demo/home" "$demo/etc/auth.d" "$demo/etc/registry.d"
export HOME=$demo/home COSIGN_PASSWORD=demo

say "A registry on loopback, with TLS by an authority of its own and a password"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=demo -keyout "$demo/ca.key" -out "$demo/ca.crt" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout "$demo/tls.key" -out "$demo/tls.csr" 2>/dev/null
openssl x509 -req -in "$demo/tls.csr" -CA "$demo/ca.crt" -CAkey "$demo/ca.key" -CAcreateserial -days 1 -out "$demo/tls.crt" \
	-extfile <(echo subjectAltName=DNS:localhost,IP:127.0.0.1) 2>/dev/null
printf 'demo:%s\n' "$(perl -e 'print crypt("secret", "\$2y\$05\$abcdefghijklmnopqrstuu")')" >"$demo/htpasswd"
cat >"$demo/registry.yml" <<-CONFIG
	version: 0.1
	log: {level: info}
	storage: {filesystem: {rootdirectory: $demo/registry}}
	http: {addr: '127.0.0.1:0', tls: {certificate: $demo/tls.crt, key: $demo/tls.key}}
	auth: {htpasswd: {realm: demo, path: $demo/htpasswd}}
CONFIG
docker-registry serve "$demo/registry.yml" >"$demo/registry.log" 2>&1 &
registry=$!
until_true grep -q 'listening on' "$demo/registry.log"
host=localhost:$(sed -nE 's/.*listening on 127\.0\.0\.1:([0-9]+).*/\1/p' "$demo/registry.log")
image=$host/demo/redis:7
echo "it listens on $host"

say "An image of the redis server of this machine, pushed with skopeo and signed with cosign"
show mkimage redis "$demo/layout:redis"
mkdir "$demo/certs" && cp "$demo/ca.crt" "$demo/certs/"
show skopeo copy -q --insecure-policy --dest-cert-dir="$demo/certs" --dest-creds=demo:secret --digestfile="$demo/digest" "oci:$demo/layout:redis" "docker://$image"
digest=$(cat "$demo/digest")
(cd "$demo" && cosign3 generate-key-pair >/dev/null 2>&1 && cosign3 signing-config create --out signing.json)
# The proxy that is not there keeps cosign from looking for a public key server.
HTTPS_PROXY=http://127.0.0.1:1 NO_PROXY=localhost SSL_CERT_FILE=$demo/ca.crt show cosign3 sign -y --key "$demo/cosign.key" --signing-config "$demo/signing.json" \
	--registry-username=demo --registry-password=secret -a "docker-reference=$host/demo/redis" "$host/demo/redis@$digest"

say "rkt is told how to reach the registry: two small files"
cat >"$demo/etc/registry.d/demo.json" <<-CONFIG
	{"rktKind": "registry", "rktVersion": "v1", "registries": ["$host"], "ca": "$demo/ca.crt"}
CONFIG
cat >"$demo/etc/auth.d/demo.json" <<-CONFIG
	{"rktKind": "dockerAuth", "rktVersion": "v1", "registries": ["$host"], "credentials": {"user": "demo", "password": "secret"}}
CONFIG
chmod 600 "$demo/etc/auth.d/demo.json"
show cat "$demo/etc/registry.d/demo.json" "$demo/etc/auth.d/demo.json"

say "Nobody is trusted yet, so the image is refused although it is signed"
show rkt fetch "$image" || true

say "The administrator trusts the key for everything below $host/demo"
show rkt trust --prefix="$host/demo" --skip-fingerprint-review "$demo/cosign.pub"

say "Now it is fetched: the signature is checked before the first layer is downloaded"
show rkt fetch "$image"
show rkt image list

say "A pod runs as an ordinary process; here it is in the background of this script"
printf '%s$ rkt run --net=none --uuid-file-save=$DEMO/uuid %s &%s\n' "$bold" "$image" "$plain"
rkt run --net=none --uuid-file-save="$demo/uuid" "$image" >"$demo/redis.log" 2>&1 &
pod=$!
until_true grep -q 'Ready to accept connections' "$demo/redis.log"
show rkt list
uuid=$(cat "$demo/uuid")
short=${uuid%%-*}

say "Inside, redis answers; enter goes through the pod's init, with the app's rights"
show rkt enter "$short" redis-cli set greeting "hello from a pod"
show rkt enter "$short" redis-cli get greeting
show rkt enter "$short" /bin/ps

say "It stops as it should: redis gets its signal and ends well"
show rkt stop "$short"
wait "$pod" || true
pod=
show tail -n 2 "$demo/redis.log"
show rkt status "$short"

say "What is left of the pod is its record, until it is collected"
show rkt gc --grace-period=0s
show rkt list

say "An image that nobody signed is refused, and the message says what to do"
show skopeo copy -q --insecure-policy --dest-cert-dir="$demo/certs" --dest-creds=demo:secret "oci:$demo/layout:redis" "docker://$host/demo/unsigned:1"
show rkt run "$host/demo/unsigned:1" || echo "(exit code $?)"

say "Who knows better says so, and the record of the pod says it for ever"
show rkt --insecure-options=image run --uuid-file-save="$demo/uuid" "$host/demo/unsigned:1" --exec=/bin/echo -- hello all the same
show rkt status "$(cut -d- -f1 <"$demo/uuid")"
show rkt gc --grace-period=0s

say "That was it. Registry, images and pods are removed now."
