package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rkt/rkt/internal/atomicfile"
	"github.com/rkt/rkt/internal/flock"
)

// maxIndex limits index.json, at some ten thousand names.
const maxIndex = 16 << 20

// index is an index.json, of which rkt changes nothing that it does not mean
// to: unknown fields, entries of other tools and their annotations stay as
// they are.
type index struct {
	fields  map[string]json.RawMessage // all but manifests
	entries []entry
}

// entry is one of the manifests that an index lists, as it was written.
type entry json.RawMessage

func emptyIndex() []byte {
	return []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`)
}

// parseIndex reads an index to edit it.
func parseIndex(data []byte) (*index, error) {
	entries, err := parseEntries(data)
	if err != nil {
		return nil, err
	}
	x := &index{entries: entries}
	if err := json.Unmarshal(data, &x.fields); err != nil {
		return nil, err
	}
	maps.DeleteFunc(x.fields, func(name string, _ json.RawMessage) bool { return strings.EqualFold(name, "manifests") })
	return x, nil
}

// parseEntries reads an index to look something up, in half the time.
func parseEntries(data []byte) ([]entry, error) {
	var x *struct {
		Manifests []entry `json:"manifests"`
	}
	if err := json.Unmarshal(data, &x); err != nil {
		return nil, err
	}
	if x == nil {
		return nil, errors.New("it is null")
	}
	return x.Manifests, nil
}

// scanEntries visits what parseEntries returns, in a tenth of the time, because
// a start of a pod looks up one name among perhaps a thousand. It checks no
// more syntax than it has to; it is not ok if data may not be an index, or one
// that can be read in several ways.
func scanEntries(data []byte, visit func(entry)) (ok bool) {
	var key []byte // the last string in the outermost object
	depth, start, lists, inList := 0, 0, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; c {
		case '"':
			end := stringEnd(data, i)
			if end < 0 {
				return false
			}
			if depth == 1 {
				key = data[i+1 : end]
			}
			i = end
		case ':':
			if depth != 1 {
				break
			}
			if inList = bytes.EqualFold(key, []byte("manifests")); inList {
				lists++
			}
			if bytes.ContainsRune(key, '\\') || lists > 1 {
				return false
			}
		case '{', '[':
			if depth == 1 {
				inList = inList && c == '['
			}
			if depth == 2 {
				start = i
			}
			depth++
		case '}', ']':
			if depth--; depth == 2 && inList && c == '}' {
				visit(data[start : i+1])
			}
		}
	}
	return depth == 0 && lists == 1
}

// stringEnd returns where the string that starts at data[start] ends, or -1.
func stringEnd(data []byte, start int) int {
	for end := start + 1; ; end++ {
		next := bytes.IndexByte(data[end:], '"')
		if next < 0 {
			return -1
		}
		end += next
		text := data[start+1 : end]
		if escapes := len(text) - len(bytes.TrimRight(text, "\\")); escapes%2 == 0 {
			return end
		}
	}
}

// UnmarshalJSON keeps an entry as it is.
func (e *entry) UnmarshalJSON(data []byte) error {
	*e = bytes.Clone(data)
	return nil
}

// bytes is what parseIndex reads.
func (x *index) bytes() ([]byte, error) {
	manifests := make([]json.RawMessage, len(x.entries))
	for i, e := range x.entries {
		manifests[i] = json.RawMessage(e)
	}
	list, err := json.Marshal(manifests)
	if err != nil {
		return nil, err
	}
	all := map[string]json.RawMessage{"manifests": list}
	for name, value := range x.fields {
		all[name] = value
	}
	return json.Marshal(all)
}

// descriptor decodes an entry. It is not ok where other tools wrote something
// that is no descriptor.
func (e entry) descriptor() (desc ocispec.Descriptor, ok bool) {
	if err := json.Unmarshal(e, &desc); err != nil {
		return desc, false
	}
	_, _, err := splitDigest(desc.Digest)
	return desc, err == nil && desc.Size >= 0
}

// named returns the descriptor of an entry if its name is the one given.
// Decoding is slow next to looking at the bytes, and most entries are others'.
func (e entry) named(name string) (desc ocispec.Descriptor, ok bool) {
	if name == "" || !bytes.Contains(e, []byte(name)) && !bytes.ContainsRune(e, '\\') {
		return desc, false
	}
	desc, ok = e.descriptor()
	return desc, ok && desc.Annotations[ocispec.AnnotationRefName] == name
}

// put makes desc the only entry of its name, in the place of the old one.
func (x *index) put(name string, desc ocispec.Descriptor) error {
	raw, err := json.Marshal(desc)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(x.entries, func(e entry) bool { _, ok := e.named(name); return ok })
	if at < 0 {
		x.entries = append(x.entries, entry(raw))
		return nil
	}
	x.entries[at] = entry(raw)
	kept := slices.DeleteFunc(x.entries[at+1:], func(e entry) bool { _, ok := e.named(name); return ok })
	x.entries = x.entries[:at+1+len(kept)]
	return nil
}

// remove drops every entry of a name, and reports whether there was one.
func (x *index) remove(name string) bool {
	before := len(x.entries)
	x.entries = slices.DeleteFunc(x.entries, func(e entry) bool { _, ok := e.named(name); return ok })
	return len(x.entries) < before
}

func (s *Store) indexPath() string { return s.path("images", ocispec.ImageIndexFile) }

// entriesNamed reads what index.json lists under a name.
func (s *Store) entriesNamed(name string) ([]entry, error) {
	return readIndex(s, func(data []byte) ([]entry, error) {
		var named []entry
		ok := scanEntries(data, func(e entry) {
			if _, found := e.named(name); found {
				named = append(named, e)
			}
		})
		if ok && len(named) > 0 {
			return named, nil
		}
		return parseEntries(data)
	})
}

// readEntries reads what index.json lists.
func (s *Store) readEntries() ([]entry, error) {
	return readIndex(s, parseEntries)
}

func readIndex[T any](s *Store, parse func([]byte) (T, error)) (T, error) {
	var nothing T
	data, err := readLimited(s.indexPath(), maxIndex)
	if errors.Is(err, os.ErrNotExist) {
		data = emptyIndex()
	} else if err != nil {
		return nothing, fmt.Errorf("read names of images: %w", err)
	}
	x, err := parse(data)
	if err != nil {
		return nothing, fmt.Errorf("read names of images: %q is damaged: %w (when it is removed, the images can be fetched again)", s.indexPath(), err)
	}
	return x, nil
}

// editIndex replaces index.json by what change makes of it, if change wants so.
func (s *Store) editIndex(change func(*index) (bool, error)) error {
	release, err := s.lock("index", (*flock.Lock).Exclusive)
	if err != nil {
		return err
	}
	defer release()
	x, err := readIndex(s, parseIndex)
	if err != nil {
		return err
	}
	// Here, under the lock, is the one moment at which nobody else can be
	// writing a temporary file beside the index.
	if err := atomicfile.Sweep(s.path("images")); err != nil {
		return fmt.Errorf("write names of images: %w", err)
	}
	if changed, err := change(x); err != nil || !changed {
		return err
	}
	data, err := x.bytes()
	if err != nil {
		return fmt.Errorf("write names of images: %w", err)
	}
	if len(data) > maxIndex {
		return fmt.Errorf("write names of images: %q would have %d bytes, more than the limit of %d", s.indexPath(), len(data), maxIndex)
	}
	return atomicfile.Write(s.indexPath(), data, filePerm)
}

func checkLayout(path string, data []byte) error {
	var layout ocispec.ImageLayout
	if err := json.Unmarshal(data, &layout); err != nil {
		return fmt.Errorf("%q is damaged: %w", path, err)
	}
	if layout.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("%q has the version %.20q, this rkt knows %q", path, layout.Version, ocispec.ImageLayoutVersion)
	}
	return nil
}
