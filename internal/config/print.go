package config

import (
	"maps"
	"slices"
)

// masked stands for a secret that is not to be shown.
const masked = "********"

// Entry is one element of what `rkt config` prints: a document of one kind for
// one host, which could be put into a file as it is (if secrets are shown).
type Entry any

// Entries lists the merged configuration, sorted by kind and host.
func (c *Config) Entries(showSecrets bool) []Entry {
	secret := func(s string) string {
		if showSecrets {
			return s
		}
		return masked
	}
	entries := []Entry{}
	for _, host := range sortedKeys(c.auth) {
		entries = append(entries, authEntry(host, c.auth[host], secret))
	}
	for _, host := range sortedKeys(c.dockerAuth) {
		cred := c.dockerAuth[host]
		entries = append(entries, struct {
			documentHeader
			Registries  []string  `json:"registries"`
			Credentials basicJSON `json:"credentials"`
		}{newHeader("dockerAuth"), []string{host}, basicJSON{cred.User, secret(cred.Password)}})
	}
	if c.Paths != (Paths{}) {
		entries = append(entries, struct {
			documentHeader
			Data         string `json:"data,omitempty"`
			Stage1Images string `json:"stage1-images,omitempty"`
		}{newHeader("paths"), c.Paths.Data, c.Paths.Stage1Images})
	}
	for _, host := range sortedKeys(c.registries) {
		reg := c.registries[host]
		entries = append(entries, struct {
			documentHeader
			Registries        []string `json:"registries"`
			Mirrors           []string `json:"mirrors,omitempty"`
			CA                string   `json:"ca,omitempty"`
			ClientCertificate string   `json:"clientCertificate,omitempty"`
			ClientKey         string   `json:"clientKey,omitempty"`
			Lookaside         string   `json:"lookaside,omitempty"`
		}{newHeader("registry"), []string{host}, reg.Mirrors, reg.CA, reg.ClientCertificate, reg.ClientKey, reg.Lookaside})
	}
	return entries
}

func authEntry(host string, cred Credential, secret func(string) string) Entry {
	kind := "basic"
	var credentials any = basicJSON{cred.User, secret(cred.Password)}
	if cred.Token != "" {
		kind = "oauth"
		credentials = struct {
			Token string `json:"token"`
		}{secret(cred.Token)}
	}
	return struct {
		documentHeader
		Domains     []string `json:"domains"`
		Type        string   `json:"type"`
		Credentials any      `json:"credentials"`
	}{newHeader("auth"), []string{host}, kind, credentials}
}

// documentHeader is header in the order that old rkt printed it.
type documentHeader struct {
	Version string `json:"rktVersion"`
	Kind    string `json:"rktKind"`
}

func newHeader(kind string) documentHeader { return documentHeader{version, kind} }

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
