package registrytest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	tokenService = "test-registry"
	tokenIssuer  = "test-issuer"
)

// TokenServer gives out access tokens as described in
// https://distribution.github.io/distribution/spec/auth/token/ .
type TokenServer struct {
	URL    string
	User   string
	Pass   string
	bundle string
	key    *ecdsa.PrivateKey
	cert   []byte

	mu     sync.Mutex
	issued int
	Seen   []string // the Authorization header of each request
}

// NewTokenServer starts a server that gives tokens to one user, and to
// everybody when the user is "".
func NewTokenServer(t testing.TB, user, password string) *TokenServer {
	t.Helper()
	ca := NewCA(t)
	s := &TokenServer{User: user, Pass: password, key: ca.key, cert: ca.cert.Raw, bundle: filepath.Join(t.TempDir(), "bundle.pem")}
	writePEM(t, s.bundle, "CERTIFICATE", ca.cert.Raw)
	if _, err := os.Stat(s.bundle); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Issued is how many tokens were given out.
func (s *TokenServer) Issued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issued
}

// ServeHTTP implements http.Handler.
func (s *TokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.Seen = append(s.Seen, r.Header.Get("Authorization"))
	s.mu.Unlock()
	user, password, _ := r.BasicAuth()
	if s.User != "" && (user != s.User || password != s.Pass) {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	access := []any{}
	for _, scope := range r.URL.Query()["scope"] {
		kind, rest, _ := strings.Cut(scope, ":")
		if i := strings.LastIndexByte(rest, ':'); i >= 0 {
			access = append(access, map[string]any{"type": kind, "name": rest[:i], "actions": strings.Split(rest[i+1:], ",")})
		}
	}
	now := time.Now()
	token, err := s.sign(map[string]any{
		"iss": tokenIssuer, "sub": user, "aud": tokenService, "jti": rand.Text(), "access": access,
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.mu.Lock()
	s.issued++
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 3600})
}

// sign makes a JWT (RFC 7519) whose certificate travels in its header.
func (s *TokenServer) sign(claims map[string]any) (string, error) {
	head, err := json.Marshal(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.cert)}})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(head) + "." + encode(body)
	sum := sha256.Sum256([]byte(signed))
	r, v, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return "", err
	}
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	v.FillBytes(raw[32:])
	return signed + "." + encode(raw), nil
}
