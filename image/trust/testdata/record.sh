#!/bin/sh
# Makes, with the real tools, the signatures that the tests of image/trust
# verify: every file of testdata/golden is this script's output.
#
#   ./record.sh DIR
#
# Needs docker-registry, umoci, skopeo, gpg, openssl, jq, and cosign of both
# majors as cosign2 and cosign3. Runs in a network namespace of its own (root,
# or unprivileged user namespaces), so no tool waits for the internet. Takes
# about 15 seconds. TestLive runs it and all checks over its output.
set -eu
out=$(mkdir -p "$1" && cd "$1" && pwd)
if [ -z "${IN_NETNS:-}" ]; then
	[ "$(id -u)" = 0 ] && map= || map=-r
	IN_NETNS=1 exec unshare $map --net "$0" "$out"
fi
ip link set lo up
work=$(mktemp -d)
registry=
finish() {
	[ -z "$registry" ] || kill "$registry"
	GNUPGHOME=$work/gnupg gpgconf --kill all
	rm -rf "$work"
}
trap finish EXIT
cd "$work"
repo=127.0.0.1:5000/team/app
printf %s $repo >"$out/repository"
export COSIGN_PASSWORD=pw HOME="$work"

# A registry with one image, the same in another repository, an index of both
# kinds of digest, and an archive.
cat >registry.yml <<CONFIG
version: 0.1
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:5000"}
CONFIG
docker-registry serve registry.yml >registry.log 2>&1 &
registry=$!
tries=0
until curl -sf http://127.0.0.1:5000/v2/ >/dev/null; do
	tries=$((tries + 1))
	[ $tries -lt 100 ] || { cat registry.log; exit 1; }
	sleep 0.1
done
umoci init --layout img
umoci new --image img:1
echo hello >hello
umoci insert --image img:1 hello /hello
skopeo copy -q --dest-tls-verify=false oci:img:1 docker://$repo:1
skopeo copy -q oci:img:1 oci-archive:archive.tar
cp archive.tar "$out/archive.tar"
skopeo inspect --tls-verify=false --raw docker://$repo:1 >"$out/manifest.json"
digest=sha256:$(sha256sum <"$out/manifest.json" | cut -d' ' -f1)
jq -cn --arg d "$digest" --argjson s "$(stat -c %s "$out/manifest.json")" '{schemaVersion: 2,
	mediaType: "application/vnd.oci.image.index.v1+json", manifests: [{
	mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $d, size: $s,
	platform: {os: "linux", architecture: "amd64"}}]}' | tr -d '\n' >"$out/index.json"
curl -sf -X PUT -H 'Content-Type: application/vnd.oci.image.index.v1+json' \
	--data-binary "@$out/index.json" http://127.0.0.1:5000/v2/team/app/manifests/multi
index=sha256:$(sha256sum <"$out/index.json" | cut -d' ' -f1)

# cosign: every kind of key, in the classic form and as a bundle.
cosign3 signing-config create --out config.json
sign2() { # KEY NAME REF [ARGS]: payload and signature
	key=$1 name=$2 ref=$3
	shift 3
	cosign2 sign -y --key "$key.key" --tlog-upload=false --allow-http-registry --upload=false \
		--output-payload "$out/$name.payload" --output-signature "$out/$name.sig" "$@" "$ref"
}
sign3() { # KEY NAME REF [ARGS]: bundle
	key=$1 name=$2 ref=$3
	shift 3
	cosign3 sign -y --key "$key.key" --signing-config config.json --allow-http-registry --upload=false \
		--bundle "$out/$name.bundle" "$@" "$ref"
}
import() { cosign3 import-key-pair --key plain.pem --output-key-prefix "$1" && cp "$1.pub" "$out/cosign-$1.pub"; }
cosign3 generate-key-pair --output-key-prefix default
cp default.pub "$out/cosign-default.pub"
for curve in secp384r1 secp521r1; do
	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:$curve -out plain.pem
	import $curve
done
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out plain.pem 2>openssl.log
import rsa2048
openssl genpkey -algorithm ed25519 -out plain.pem
import ed25519
for key in default secp384r1 secp521r1 rsa2048 ed25519; do
	sign2 $key cosign2-$key $repo@$digest
	sign3 $key cosign3-$key $repo@$digest
	cosign3 sign-blob -y --key $key.key --signing-config config.json --bundle "$out/blob-$key.bundle" archive.tar
done
# Both forms pushed, and read back from where the registry keeps them.
fetch() { # URL-PATH
	curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json' \
		"http://127.0.0.1:5000/v2/team/app/$1"
}
cosign2 sign -y --key default.key --tlog-upload=false --allow-http-registry $repo@$digest
fetch manifests/sha256-${digest#sha256:}.sig >pushed.json
fetch blobs/$(jq -r '.layers[0].digest' pushed.json) >"$out/cosign2-pushed.payload"
jq -j '.layers[0].annotations["dev.cosignproject.cosign/signature"]' pushed.json >"$out/cosign2-pushed.sig"
cosign3 sign -y --key default.key --signing-config config.json --allow-http-registry -a docker-reference=$repo $repo@$digest
fetch manifests/sha256-${digest#sha256:} >referrers.json
fetch manifests/$(jq -r '.manifests[0].digest' referrers.json) >pushed.json
fetch blobs/$(jq -r '.layers[0].digest' pushed.json) >"$out/cosign3-pushed.bundle"
# A signature by RSA-PSS, as key servers of clouds make them.
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out pss.pem 2>openssl.log
openssl pkey -in pss.pem -pubout -out "$out/cosign-pss.pub"
cp "$out/cosign2-default.payload" "$out/pss.payload"
openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sign pss.pem "$out/pss.payload" | base64 -w0 >"$out/pss.sig"

sign2 default cosign2-index $repo@$index
sign3 default cosign3-index $repo@$index
sign2 default cosign2-elsewhere $repo@$digest --sign-container-identity 127.0.0.1:5000/team/other
sign2 default cosign2-tagged $repo@$digest --sign-container-identity $repo:1
sign3 default cosign3-named $repo@$digest -a docker-reference=$repo
sign3 default cosign3-tagged $repo@$digest -a docker-reference=$repo:1
sign3 default cosign3-elsewhere $repo@$digest -a docker-reference=127.0.0.1:5000/team/other
cosign3 sign-blob -y --key default.key --signing-config config.json --bundle "$out/blob-manifest.bundle" "$out/manifest.json"
echo '{"scanner": "says nothing about running it"}' >predicate.json
cosign3 attest -y --key default.key --signing-config config.json --allow-http-registry \
	--predicate predicate.json --type custom --bundle "$out/cosign3-attestation.bundle" $repo@$digest

# OpenPGP: skopeo signs by gpg, gpg signs archives.
export GNUPGHOME="$work/gnupg"
mkdir -m 700 gnupg
gpg='gpg --batch --quiet --pinentry-mode loopback --passphrase='
fingerprint() { gpg --batch --with-colons --list-keys "<$1>" | awk -F: '$1 == "fpr" {print $10; exit}'; }
$gpg --quick-gen-key 'RSA <rsa@example.org>' rsa3072 sign never
$gpg --quick-gen-key 'Ed <ed@example.org>' ed25519 sign never
$gpg --quick-gen-key 'Sub <sub@example.org>' ed25519 cert never
$gpg --quick-add-key "$(fingerprint sub@example.org)" ed25519 sign never
$gpg --quick-gen-key 'Curve <curve@example.org>' nistp384 sign never
$gpg --quick-gen-key 'Short lived <short@example.org>' ed25519 sign 30d
$gpg --quick-gen-key 'Taken back <revoked@example.org>' ed25519 sign never
$gpg --quick-gen-key 'Sub taken back <revokedsub@example.org>' ed25519 cert never
$gpg --quick-add-key "$(fingerprint revokedsub@example.org)" ed25519 sign never
$gpg --faked-system-time 20200101T000000 --quick-gen-key 'Short sub <shortsub@example.org>' ed25519 cert never
$gpg --quick-add-key "$(fingerprint shortsub@example.org)" ed25519 sign 30d
$gpg --cert-digest-algo SHA1 --allow-weak-key-signatures --quick-gen-key 'Weak <weak@example.org>' rsa2048 sign never
$gpg --quick-gen-key 'Small <small@example.org>' rsa1024 sign never
for who in rsa ed sub curve short revoked revokedsub shortsub weak small; do
	skopeo standalone-sign "$out/manifest.json" $repo:1 "$(fingerprint $who@example.org)" -o "$out/simple-$who.sig"
	$gpg -u "<$who@example.org>" --armor --detach-sign -o "$out/archive-$who.asc" archive.tar
done
skopeo standalone-sign "$out/manifest.json" 127.0.0.1:5000/team/other:1 "$(fingerprint rsa@example.org)" -o "$out/simple-elsewhere.sig"
echo '{}' >other.json
skopeo standalone-sign other.json $repo:1 "$(fingerprint rsa@example.org)" -o "$out/simple-otherdigest.sig"
$gpg -u "<rsa@example.org>" --detach-sign -o "$out/archive-binary.sig" archive.tar
$gpg -u "<rsa@example.org>" -u "<ed@example.org>" --armor --detach-sign -o "$out/archive-two.asc" archive.tar
$gpg -u "<rsa@example.org>" --digest-algo SHA1 --armor --detach-sign -o "$out/archive-sha1.asc" archive.tar
$gpg -u "<rsa@example.org>" --digest-algo SHA512 --armor --detach-sign -o "$out/archive-sha512.asc" archive.tar
$gpg -u "<rsa@example.org>" --armor --textmode --detach-sign -o "$out/archive-text.asc" archive.tar
$gpg -u "<rsa@example.org>" --armor --clear-sign -o "$out/archive-clear.asc" hello
rev=$(fingerprint revoked@example.org)
sed 's/^:-----BEGIN/-----BEGIN/' "gnupg/openpgp-revocs.d/$rev.rev" | $gpg --import
gpg --batch --quiet --command-fd 0 --pinentry-mode loopback --passphrase= --edit-key "<revokedsub@example.org>" >edit.log 2>&1 <<EDIT
key 1
revkey
y
0

y
save
EDIT
# By skopeo copy, which puts it where the lookaside configuration says.
mkdir registries.d
cat >registries.d/default.yaml <<CONFIG
default-docker:
  lookaside-staging: file://$work/lookaside
CONFIG
skopeo --registries.d registries.d copy -q --dest-tls-verify=false --sign-by "$(fingerprint rsa@example.org)" oci:img:1 docker://$repo:2
cp lookaside/team/app@sha256=*/signature-1 "$out/simple-copy.sig"
for who in rsa ed sub curve short revoked revokedsub shortsub weak small; do
	gpg --batch --export --armor "<$who@example.org>" >"$out/openpgp-$who.asc"
done
gpg --batch --export "<rsa@example.org>" >"$out/openpgp-rsa.gpg"
gpg --batch --export --armor "<rsa@example.org>" "<ed@example.org>" >"$out/openpgp-both.asc"
chmod 644 "$out"/*
