package trust

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rkt/rkt/internal/atomicfile"
	"github.com/rkt/rkt/internal/flock"
	"github.com/rkt/rkt/internal/smallfile"
)

const keyDir = "keys" // below trust.d

// Everything is the pattern that matches every repository.
const Everything = "**"

// Below is the pattern of a repository or host and everything below it.
func Below(prefix string) string { return strings.TrimSuffix(prefix, "/") + "/**" }

// Editor changes the administrator's part of the policy, the rules that
// 'rkt trust' makes. It holds a lock, so that two of them do not lose each
// other's change; policies are read without it, because files are replaced as
// a whole.
type Editor struct {
	dir  string // …/trust.d
	lock *flock.Lock
}

type editedFile struct {
	path string
	policyFile
}

// Change says what an Editor did.
type Change struct {
	File     string   // the rule file that was written or removed
	Rule     string   // FILE#N, "" when the whole rule went
	Match    []string // what the rule is for
	Keys     int      // how many keys the rule has now
	KeyFile  string   // the key's file, written by Add or removed by RemoveKey
	Unneeded bool     // Add: the rule had the key already
}

// Edit opens the administrator's policy for changes, making its directory
// when it does not exist.
func Edit(localDir string) (*Editor, error) {
	dir, err := filepath.Abs(filepath.Join(localDir, policyDir))
	if err != nil {
		return nil, fmt.Errorf("change trust policy: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, keyDir), 0o755); err != nil {
		return nil, fmt.Errorf("change trust policy: %w", err)
	}
	lock, err := flock.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("change trust policy: %w", err)
	}
	if err := lock.Exclusive(); err != nil {
		return nil, errors.Join(fmt.Errorf("change trust policy: %w", err), lock.Close())
	}
	return &Editor{dir, lock}, nil
}

// Close gives the lock up.
func (e *Editor) Close() error { return e.lock.Close() }

// Add keeps a key below trust.d/keys and makes a rule that any of the
// pattern's keys vouches for what it matches, or extends that rule. data is
// the file that key was read from. A key file that is there already, as for a
// renewed key, is replaced.
func (e *Editor) Add(pattern string, key Key, data []byte) (Change, error) {
	change, err := e.add(pattern, key, data)
	if err != nil {
		return Change{}, fmt.Errorf("trust key %s for %q: %w", key.Fingerprint, clip(pattern), err)
	}
	return change, nil
}

func (e *Editor) add(pattern string, key Key, data []byte) (Change, error) {
	if _, err := parsePattern(pattern); err != nil {
		return Change{}, err
	}
	file := filepath.Join(e.dir, ruleFileName(pattern))
	f, err := e.read(file)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = policyFile{Kind: policyKind, Version: policyVersion, Rules: []ruleSpec{{
			Match: []string{pattern}, Require: "any", Keys: []keySpec{},
		}}}, nil
	}
	if err != nil {
		return Change{}, err
	}
	n := -1
	for i, r := range f.Rules {
		if len(r.Match) == 1 && r.Match[0] == pattern && r.Keys != nil {
			n = i
		}
	}
	if n < 0 {
		return Change{}, fmt.Errorf("file %q has been edited and has no rule with keys for it any more; remove the file, or add the key there by hand", file)
	}
	rule := &f.Rules[n]
	spec := keySpec{Type: key.Type, Path: filepath.Join(keyDir, keyFileName(key))}
	change := Change{File: file, Rule: fmt.Sprintf("%s#%d", file, n+1), Match: rule.Match, KeyFile: filepath.Join(e.dir, spec.Path)}
	for _, k := range rule.Keys {
		change.Unneeded = change.Unneeded || k == spec
	}
	if err := atomicfile.Write(change.KeyFile, data, 0o644); err != nil {
		return Change{}, err
	}
	if !change.Unneeded {
		rule.Keys = append(rule.Keys, spec)
		if err := e.write(file, f); err != nil {
			return Change{}, err
		}
	}
	change.Keys = len(rule.Keys)
	return change, nil
}

// RemoveKey takes a key out of every rule of the administrator. A rule whose
// last key goes stays and refuses what it matches: falling through to a later
// rule could accept more than before. fingerprint may be cut short.
func (e *Editor) RemoveKey(fingerprint string) ([]Change, error) {
	changes, err := e.removeKey(fingerprint)
	if err != nil {
		return nil, fmt.Errorf("take key %q out of the trust policy: %w", clip(fingerprint), err)
	}
	return changes, nil
}

func (e *Editor) removeKey(wanted string) ([]Change, error) {
	files, err := e.files()
	if err != nil {
		return nil, err
	}
	full, err := fullFingerprint(files, wanted)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, f := range files {
		before := len(changes)
		for i := range f.Rules {
			rule := &f.Rules[i]
			kept, gone := rule.without(f.path, full)
			if len(gone) == 0 {
				continue
			}
			rule.Keys = kept
			change := Change{File: f.path, Rule: fmt.Sprintf("%s#%d", f.path, i+1), Match: rule.Match, Keys: len(kept)}
			if gone[0].Path != "" {
				change.KeyFile = keyPath(f.path, gone[0].Path)
			}
			changes = append(changes, change)
		}
		if len(changes) > before {
			if err := e.write(f.path, f.policyFile); err != nil {
				return nil, err
			}
		}
	}
	return changes, e.removeUnused(changes)
}

// without splits a rule's keys into those that stay and those that are the
// fingerprint's.
func (s ruleSpec) without(file, fingerprint string) (kept, gone []keySpec) {
	kept = []keySpec{}
	for _, k := range s.Keys {
		if keys, err := k.load(file); err == nil && len(keys) == 1 && keys[0].Fingerprint == fingerprint {
			gone = append(gone, k)
			continue
		}
		kept = append(kept, k)
	}
	return kept, gone
}

// fullFingerprint finds the one key that a fingerprint or its start names.
func fullFingerprint(files []editedFile, wanted string) (string, error) {
	short := strings.ToLower(strings.TrimPrefix(wanted, "sha256:"))
	if len(short) < 8 {
		return "", errors.New("give at least its first 8 digits")
	}
	found := map[string]bool{}
	for _, f := range files {
		for _, r := range f.Rules {
			for _, spec := range r.Keys {
				keys, _ := spec.load(f.path) // what cannot be read has no fingerprint
				for _, key := range keys {
					if !strings.HasPrefix(strings.ToLower(strings.TrimPrefix(key.Fingerprint, "sha256:")), short) {
						continue
					}
					if len(keys) > 1 {
						return "", fmt.Errorf("key file %s of %q holds several keys, edit it by hand", spec.where(), f.path)
					}
					found[key.Fingerprint] = true
				}
			}
		}
	}
	if len(found) > 1 {
		return "", errors.New("more than one key starts so, give more digits")
	}
	for fingerprint := range found {
		return fingerprint, nil
	}
	return "", errors.New("no rule of the administrator has it, see 'rkt trust list'; a vendor's file is masked by one of the same name in the local trust.d")
}

// RemoveRule removes the rule that Add made for a pattern, and its keys where
// no other rule has them. What it matched is then for the next rule to decide.
func (e *Editor) RemoveRule(pattern string) (Change, error) {
	change, err := e.removeRule(pattern)
	if err != nil {
		return Change{}, fmt.Errorf("remove the trust rule for %q: %w", clip(pattern), err)
	}
	return change, nil
}

func (e *Editor) removeRule(pattern string) (Change, error) {
	if _, err := parsePattern(pattern); err != nil {
		return Change{}, err
	}
	file := filepath.Join(e.dir, ruleFileName(pattern))
	f, err := e.read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Change{}, errors.New("'rkt trust' has made none, see 'rkt trust list'")
	}
	if err != nil {
		return Change{}, err
	}
	if len(f.Rules) != 1 {
		return Change{}, fmt.Errorf("file %q has been edited and has %d rules; edit it by hand", file, len(f.Rules))
	}
	if err := os.Remove(file); err != nil {
		return Change{}, smallfile.Cause(err)
	}
	var gone []Change
	for _, k := range f.Rules[0].Keys {
		if k.Path != "" {
			gone = append(gone, Change{KeyFile: keyPath(file, k.Path)})
		}
	}
	return Change{File: file, Match: f.Rules[0].Match}, e.removeUnused(gone)
}

// removeUnused removes key files that 'rkt trust' keeps and no rule names now.
func (e *Editor) removeUnused(changes []Change) error {
	files, err := e.files()
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, f := range files {
		for _, r := range f.Rules {
			for _, k := range r.Keys {
				used[keyPath(f.path, k.Path)] = true
			}
		}
	}
	for _, change := range changes {
		if filepath.Dir(change.KeyFile) != filepath.Join(e.dir, keyDir) || used[change.KeyFile] {
			continue
		}
		if err := os.Remove(change.KeyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return atomicfile.SyncDir(e.dir)
}

func keyPath(file, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(filepath.Dir(file), path)
}

func (e *Editor) files() ([]editedFile, error) {
	names, err := policyNames(e.dir)
	if err != nil {
		return nil, err
	}
	var files []editedFile
	for _, name := range names {
		file := filepath.Join(e.dir, name)
		f, err := e.read(file)
		if err != nil {
			return nil, err
		}
		files = append(files, editedFile{file, f})
	}
	return files, nil
}

// read reads a policy file and refuses one that could not be evaluated.
func (e *Editor) read(file string) (policyFile, error) {
	data, err := smallfile.Read(file, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return policyFile{}, err
	}
	var f policyFile
	if err == nil {
		_, err = parsePolicy(file, data)
	}
	if err == nil {
		f, err = readPolicyFile(data)
	}
	if err != nil {
		return f, fmt.Errorf("trust policy file %q: %w", file, err)
	}
	return f, nil
}

func (e *Editor) write(file string, f policyFile) error {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if _, err := parsePolicy(file, data); err != nil {
		return fmt.Errorf("file %q would not be valid: %w", file, err)
	}
	return atomicfile.Write(file, data, 0o644)
}

// keyFileName has no colon, so that the name can be typed and copied anywhere.
func keyFileName(key Key) string {
	name := strings.ToLower(strings.TrimPrefix(key.Fingerprint, "sha256:"))
	if key.Type == OpenPGP {
		return "openpgp-" + name + ".asc"
	}
	return "cosign-" + name + ".pub"
}

// ruleFileName puts the narrower rule before the wider one, since the first
// that matches decides and files are read in the order of their names.
func ruleFileName(pattern string) string {
	narrow := 0
	for segment := range strings.SplitSeq(pattern, "/") {
		if segment != "*" && segment != "**" {
			narrow += 2
		}
	}
	name := "everything"
	if !strings.HasSuffix(pattern, Everything) {
		narrow++
	}
	if pattern != Everything {
		name = strings.NewReplacer("/", "+", "**", "", "*", "_").Replace(strings.TrimSuffix(pattern, "/**"))
	}
	const longest = 150
	if len(name) > longest {
		name = fmt.Sprintf("%s-%x", name[:longest], sha256.Sum256([]byte(pattern)))[:longest+17]
	}
	return fmt.Sprintf("50-trust-%03d-%s.json", 999-narrow, name)
}
