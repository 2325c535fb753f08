package source

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/regclient/regclient/types/platform"
)

// Platform is what an image must be made for.
type Platform struct{ p platform.Platform }

// Machine is the platform of this machine.
func Machine() Platform {
	local := platform.Local()
	local.OS = runtime.GOOS
	return Platform{local}
}

// ParsePlatform reads "os/arch[/variant]".
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || strings.ContainsAny(s, ", ") {
		return Platform{}, fmt.Errorf("platform %q is not OS/ARCHITECTURE[/VARIANT], like linux/arm64", s)
	}
	p, err := platform.Parse(s)
	if err != nil {
		return Platform{}, fmt.Errorf("platform %q is not OS/ARCHITECTURE[/VARIANT], like linux/arm64", s)
	}
	return Platform{p}, nil
}

func (p Platform) String() string { return p.p.String() }

// Runs reports whether an image of a platform can run here. One that does not
// say what it is for is taken at the user's word.
func (p Platform) Runs(image ocispec.Platform) bool {
	if image.OS == "" && image.Architecture == "" {
		return true
	}
	return platform.Compatible(p.p, toRegclient(image))
}

// Choose picks the best manifest of an index. One without any platforms must
// have a single entry.
func (p Platform) Choose(index ocispec.Index) (ocispec.Descriptor, error) {
	var best *ocispec.Descriptor
	var bestPlatform platform.Platform
	compare := platform.NewCompare(p.p)
	var others []string
	for i := range index.Manifests {
		m := &index.Manifests[i]
		if m.Platform == nil || m.MediaType != ocispec.MediaTypeImageManifest && m.MediaType != DockerManifest {
			continue
		}
		if its := toRegclient(*m.Platform); compare.Better(its, bestPlatform) {
			best, bestPlatform = m, its
		}
		if name := describe(m.Platform); name != "unknown/unknown" && !slices.Contains(others, name) && len(others) < 32 {
			others = append(others, name)
		}
	}
	switch {
	case best != nil:
		return *best, nil
	case len(index.Manifests) == 1 && index.Manifests[0].Platform == nil:
		return index.Manifests[0], nil
	case len(others) == 0:
		return ocispec.Descriptor{}, fmt.Errorf("the image index has nothing for %s", p)
	}
	return ocispec.Descriptor{}, fmt.Errorf("the image index has nothing for %s, only for %s; choose one with --platform", p, strings.Join(others, ", "))
}

func toRegclient(p ocispec.Platform) platform.Platform {
	return platform.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

// describe is safe to print: a platform is text of a stranger.
func describe(p *ocispec.Platform) string {
	var words []string
	for _, word := range []string{p.OS, p.Architecture, p.Variant} {
		if word != "" {
			words = append(words, strings.Trim(fmt.Sprintf("%.32q", word), `"`))
		}
	}
	return strings.Join(words, "/")
}
