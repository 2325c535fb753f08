package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/rkt/rkt/internal/smallfile"
)

// Types of keys.
const (
	Cosign  = "cosign"
	OpenPGP = "openpgp"
)

const (
	minRSA = 2048
	maxRSA = 16384
)

// Key is a public key as people review it.
type Key struct {
	Type        string // Cosign or OpenPGP
	Fingerprint string // "sha256:…" over the DER form, or OpenPGP's in upper case
	Algorithm   string
	Identities  []string // OpenPGP user IDs; whoever made the key chose them
	Subkeys     []string // fingerprints of OpenPGP subkeys that may sign
	Created     time.Time
	Expires     time.Time // zero: never
	Revoked     bool

	public crypto.PublicKey
	entity *openpgp.Entity
}

// ReadKey reads one public key of either type and finds out which: a PEM
// "PUBLIC KEY" is cosign's, a PGP public key block or binary packets OpenPGP.
func ReadKey(data []byte) (Key, error) {
	var keys []Key
	var err error
	if isOpenPGP(data) {
		keys, err = readOpenPGP(data)
	} else {
		keys, err = readCosign(data)
	}
	if err != nil {
		return Key{}, err
	}
	if len(keys) != 1 {
		return Key{}, fmt.Errorf("it holds %d keys: give one per file, so that each can be reviewed", len(keys))
	}
	return keys[0], nil
}

// ReadKeyFile is ReadKey of a file, and returns its bytes too.
func ReadKeyFile(path string) (Key, []byte, error) {
	data, err := smallfile.Read(path, maxFile)
	if err != nil {
		return Key{}, nil, fmt.Errorf("read key file %q: %w", path, err)
	}
	key, err := ReadKey(data)
	if err != nil {
		return Key{}, nil, fmt.Errorf("read key file %q: %w", path, err)
	}
	return key, data, nil
}

// Usable says why signatures by the key would be refused at this moment
// whatever they are for: it is revoked, expired or too weak.
func (k Key) Usable(now time.Time) error {
	if k.entity == nil {
		return nil
	}
	return usable(k.entity, now)
}

// load reads a rule's key; an OpenPGP file may hold several, of which each
// counts as this key.
func (k keySpec) load(file string) ([]Key, error) {
	data := []byte(k.Data)
	if k.Path != "" {
		path := k.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(file), path)
		}
		var err error
		if data, err = smallfile.Read(path, maxFile); err != nil {
			return nil, fmt.Errorf("key file %q: %w", path, err)
		}
	}
	read := readCosign
	if k.Type == OpenPGP {
		read = readOpenPGP
	}
	keys, err := read(data)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.where(), err)
	}
	return keys, nil
}

func (k keySpec) where() string {
	if k.Path != "" {
		return fmt.Sprintf("%q", k.Path)
	}
	return "of field \"data\""
}

func isOpenPGP(data []byte) bool {
	data = bytes.TrimSpace(data)
	return len(data) > 0 && data[0]&0x80 != 0 || bytes.Contains(data, []byte(armorStart))
}

func readCosign(data []byte) ([]Key, error) {
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, fmt.Errorf("it is neither a PEM public key nor an OpenPGP public key")
	case block.Type != "PUBLIC KEY":
		return nil, fmt.Errorf("it is a PEM %q, not a \"PUBLIC KEY\"; cosign writes the public one to cosign.pub", clip(block.Type))
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, fmt.Errorf("it holds more than one PEM block")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("it is not a public key: %w", err)
	}
	algorithm, err := describePublic(public)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(block.Bytes)
	return []Key{{
		Type: Cosign, Fingerprint: "sha256:" + hex.EncodeToString(sum[:]),
		Algorithm: algorithm, public: public,
	}}, nil
}

// describePublic names the algorithm of a key that verifySignature can use.
func describePublic(public crypto.PublicKey) (string, error) {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521() {
			return "ECDSA " + key.Curve.Params().Name, nil
		}
		return "", fmt.Errorf("it is an ECDSA key on curve %s, which is not supported, use P-256, P-384 or P-521", key.Curve.Params().Name)
	case ed25519.PublicKey:
		return "Ed25519", nil
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		if bits < minRSA || bits > maxRSA {
			return "", fmt.Errorf("it is an RSA key of %d bits, allowed are %d to %d", bits, minRSA, maxRSA)
		}
		return fmt.Sprintf("RSA %d", bits), nil
	}
	return "", fmt.Errorf("it is a key of type %T, which is not supported, use ECDSA, Ed25519 or RSA", public)
}
