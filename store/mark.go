package store

import (
	"encoding/json"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// marker collects what is referred to. It follows references through damaged
// documents as far as it can read them: keeping too much does no harm.
type marker struct {
	s         *Store
	documents map[digest.Digest]document // read so far; content never changes

	blobs  map[digest.Digest]bool
	layers map[string]bool        // by hex of the diffID
	leased map[digest.Digest]bool // the part of blobs that leases protect
}

// document is every reference that an index, a manifest or a configuration can
// hold.
type document struct {
	Manifests []reference `json:"manifests"`
	Config    reference   `json:"config"`
	Layers    []reference `json:"layers"`
	RootFS    struct {
		DiffIDs []digest.Digest `json:"diff_ids"`
	} `json:"rootfs"`
}

type reference struct {
	Digest digest.Digest `json:"digest"`
}

func newMarker(s *Store) *marker {
	m := &marker{s: s, documents: map[digest.Digest]document{}}
	m.forget()
	return m
}

// forget drops every mark, and keeps the documents that were read.
func (m *marker) forget() {
	m.blobs, m.layers, m.leased = map[digest.Digest]bool{}, map[string]bool{}, nil
}

// index marks all that an index.json refers to, whoever wrote it.
func (m *marker) index(entries []entry) {
	for _, e := range entries {
		desc, ok := e.descriptor()
		if !ok {
			continue
		}
		if isManifest(desc.MediaType) || isIndex(desc.MediaType) {
			m.follow(desc.Digest)
		}
		m.blobs[desc.Digest] = true
		for _, key := range []string{annotationIndex, annotationEvidence} {
			m.blobs[noteDigest(desc.Annotations[key])] = true
		}
	}
}

// pods marks what pods refer to.
func (m *marker) pods(used InUse) {
	for d, use := range used.Blobs {
		if use {
			m.follow(d)
		}
	}
	for layer, use := range used.Layers {
		if use {
			m.layers[layer[strings.LastIndexByte(layer, ':')+1:]] = true
		}
	}
}

// leases marks what leases list, and nothing that it refers to: that is listed
// when it is used.
func (m *marker) leases(blobs map[digest.Digest]bool, layers map[string]bool) {
	m.leased = blobs
	for d := range blobs {
		m.blobs[d] = true
	}
	for layer := range layers {
		m.layers[layer] = true
	}
}

// follow marks a document and everything below it. Digests cannot form a
// cycle, but damaged documents can.
func (m *marker) follow(d digest.Digest) {
	visited := map[digest.Digest]bool{}
	for todo := []digest.Digest{d}; len(todo) > 0; todo = todo[1:] {
		d := todo[0]
		m.blobs[d] = true
		if visited[d] {
			continue
		}
		visited[d] = true
		doc := m.read(d)
		for _, r := range doc.Manifests {
			todo = append(todo, r.Digest)
		}
		for _, r := range doc.Layers {
			m.blobs[r.Digest] = true
		}
		if doc.Config.Digest != "" {
			todo = append(todo, doc.Config.Digest)
		}
		for _, diffID := range doc.RootFS.DiffIDs {
			if _, hex, err := splitDigest(diffID); err == nil {
				m.layers[hex] = true
			}
		}
	}
}

func (m *marker) read(d digest.Digest) document {
	if doc, found := m.documents[d]; found {
		return doc
	}
	var doc document
	f, size, err := m.s.openBlob(ocispec.Descriptor{Digest: d})
	if err != nil {
		return doc // not kept: it may come into being before the next look
	}
	defer func() { _ = f.Close() }()
	first := make([]byte, 1)
	if _, err := f.ReadAt(first, 0); err == nil && first[0] == '{' && size <= MaxDocument {
		data := make([]byte, size)
		if _, err := f.ReadAt(data, 0); err == nil {
			_ = json.Unmarshal(data, &doc) // what it could make out counts
		}
	}
	m.documents[d] = doc
	return doc
}
