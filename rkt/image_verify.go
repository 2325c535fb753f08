package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/rkt/rkt/image/reference"
	"github.com/rkt/rkt/image/trust"
	"github.com/rkt/rkt/internal/table"
	"github.com/rkt/rkt/store"
)

// verifyView is what 'rkt image verify' found out about one name of an image.
// It is described in Documentation/commands/image-verify.md.
type verifyView struct {
	Name     string     `json:"name"`
	Digest   string     `json:"digest"`
	Intact   bool       `json:"intact"`
	Blobs    []blobView `json:"blobs"`
	Trusted  bool       `json:"trusted"`
	Unsigned bool       `json:"unsigned"`
	Rule     string     `json:"rule,omitempty"`
	Keys     []string   `json:"keys"`
	Steps    []string   `json:"steps"`
	Error    string     `json:"error,omitempty"`

	err error
}

type blobView struct {
	What   string `json:"what"` // index, manifest, config, layer or evidence
	Digest string `json:"digest"`
	Size   int64  `json:"size,omitempty"`
	Error  string `json:"error,omitempty"`
}

func newImageVerifyCmd(g *globals) *cobra.Command {
	var format table.Format
	cmd := &cobra.Command{
		Use:   "verify IMAGE...",
		Short: "Hash images in the store again and explain whether they are trusted today",
		Long: `Read every blob of the images and compare it with its digest; then judge the
kept signatures by the trust policy of this moment, and explain rule by rule and
key by key why the image is or is not trusted. Nothing is fetched or changed.

The exit code is 254 if an image is damaged or not trusted.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeImages(g),
		RunE: func(cmd *cobra.Command, args []string) error {
			views, err := verifyImages(g, args)
			if err != nil {
				return err
			}
			if format != table.Text {
				err = format.Encode(cmd.OutOrStdout(), views)
			} else {
				err = printVerified(cmd.OutOrStdout(), views)
			}
			if err != nil {
				return err
			}
			return verdict(views)
		},
	}
	cmd.Flags().Var(&format, "format", table.FormatUsage)
	return cmd
}

func verifyImages(g *globals, names []string) ([]verifyView, error) {
	c, err := g.stage0()
	if err != nil {
		return nil, err
	}
	s, err := g.images()
	if err != nil {
		return nil, err
	}
	policy, err := trust.LoadPolicy(c.SystemConfig, c.LocalConfig)
	if err != nil {
		return nil, err
	}
	views := []verifyView{}
	for _, name := range names {
		images, err := findImages(s, name)
		if err != nil {
			return nil, err
		}
		for _, img := range images {
			views = append(views, verifyImage(s, policy, img, time.Now()))
		}
	}
	return views, nil
}

func verifyImage(s *store.Store, policy *trust.Policy, img store.Image, now time.Time) verifyView {
	v := verifyView{Name: img.Name, Digest: img.Manifest.Digest.String(), Keys: []string{}, Steps: []string{}}
	bad := v.hashBlobs(s, img)
	v.Intact = bad == nil
	if bad != nil {
		bad = fmt.Errorf("image %q is damaged: %w; fetch it again with 'rkt fetch %s'", img.Name, bad, img.Name)
	}
	v.err = errors.Join(bad, v.judge(s, policy, img, now))
	if v.err != nil {
		v.Error = strings.ReplaceAll(v.err.Error(), "\n", "; ")
	}
	return v
}

// hashBlobs reads every blob of the image through the store's verifying reader
// and returns the first thing that is wrong.
func (v *verifyView) hashBlobs(s *store.Store, img store.Image) error {
	var first error
	check := func(what string, desc ocispec.Descriptor) {
		blob := blobView{What: what, Digest: desc.Digest.String(), Size: desc.Size}
		if err := hashBlob(s, desc); err != nil {
			blob.Error = err.Error()
			if first == nil {
				first = fmt.Errorf("%s: %w", what, err)
			}
		}
		v.Blobs = append(v.Blobs, blob)
	}
	document := func(what string, d digest.Digest) {
		if d == "" {
			return
		}
		blob := blobView{What: what, Digest: d.String()}
		if data, err := s.ReadBlob(ocispec.Descriptor{Digest: d}); err != nil {
			blob.Error = err.Error()
			if first == nil {
				first = fmt.Errorf("%s: %w", what, err)
			}
		} else {
			blob.Size = int64(len(data))
		}
		v.Blobs = append(v.Blobs, blob)
	}
	document("index", img.Index)
	check("manifest", img.Manifest)
	if m, err := s.Manifest(img); err == nil {
		check("config", m.Config)
		for _, layer := range m.Layers {
			check("layer", layer)
		}
	} else if first == nil {
		first = err
	}
	document("evidence", img.Evidence)
	return first
}

func hashBlob(s *store.Store, desc ocispec.Descriptor) (err error) {
	r, err := s.OpenBlob(desc)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// judge asks the policy as a start of the image would.
func (v *verifyView) judge(s *store.Store, policy *trust.Policy, img store.Image, now time.Time) error {
	ref, err := reference.Parse(img.Name)
	if err != nil {
		return fmt.Errorf("image %q is not trusted: no rule can match its name: %w", img.Name, err)
	}
	var items []trust.Evidence
	if img.Evidence != "" {
		data, err := s.ReadBlob(ocispec.Descriptor{Digest: img.Evidence})
		if err == nil {
			items, err = trust.Unmarshal(data)
		}
		if err != nil {
			return fmt.Errorf("image %q is not trusted: %w", img.Name, err)
		}
	}
	subject := trust.Subject{Ref: ref, Manifest: img.Manifest.Digest, Index: img.Index}
	if img.Index != "" {
		if subject.IndexBody, err = s.ReadBlob(ocispec.Descriptor{Digest: img.Index}); err != nil {
			return fmt.Errorf("image %q is not trusted: read its index: %w", img.Name, err)
		}
	}
	d := policy.Evaluate(subject, items, now)
	v.Trusted, v.Unsigned, v.Rule = d.Trusted, d.Unsigned, d.Rule
	v.Keys, v.Steps = append(v.Keys, d.Keys...), append(v.Steps, d.Steps...)
	return d.Err
}

func printVerified(w io.Writer, views []verifyView) error {
	var b strings.Builder
	for _, v := range views {
		fmt.Fprintf(&b, "%s\n  digest: %s\n", v.Name, v.Digest)
		total := int64(0)
		for _, blob := range v.Blobs {
			total += blob.Size
			if blob.Error != "" {
				fmt.Fprintf(&b, "  damaged %s: %s\n", blob.What, table.Printable(blob.Error))
			}
		}
		if v.Intact {
			fmt.Fprintf(&b, "  intact: %d blobs, %d bytes\n", len(v.Blobs), total)
		}
		for _, step := range v.Steps {
			fmt.Fprintf(&b, "  %s\n", table.Printable(step))
		}
		switch {
		case v.Unsigned:
			fmt.Fprintf(&b, "  trusted: unsigned images are accepted here\n")
		case v.Trusted:
			fmt.Fprintf(&b, "  trusted: signed by %s\n", strings.Join(v.Keys, ", "))
		default:
			fmt.Fprintf(&b, "  not trusted\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// verdict is the error of the whole command.
func verdict(views []verifyView) error {
	var bad []verifyView
	for _, v := range views {
		if v.err != nil {
			bad = append(bad, v)
		}
	}
	switch {
	case len(bad) == 0:
		return nil
	case len(views) == 1:
		return errors.New(bad[0].Error)
	}
	names := make([]string, len(bad))
	for i, v := range bad {
		names[i] = fmt.Sprintf("%q", v.Name)
	}
	return fmt.Errorf("%d of %d images are damaged or not trusted: %s", len(bad), len(views), strings.Join(names, ", "))
}
