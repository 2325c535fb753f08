package insecure

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := map[string]struct {
		want Options
		err  string
	}{
		"":                      {want: 0},
		"none":                  {want: 0},
		"image":                 {want: Image},
		" image , tls":          {want: Image | TLS},
		"all-fetch":             {want: Image | TLS | HTTP},
		"all-run,http":          {want: Capabilities | Paths | Seccomp | HTTP},
		"all":                   {want: Image | TLS | HTTP | Capabilities | Paths | Seccomp},
		"images":                {err: `"images" is unknown`},
		"image,IMAGE":           {err: `"IMAGE" is unknown`},
		"pubkey":                {err: `"pubkey" is unknown`},
		"ondisk":                {err: `"ondisk" is unknown`},
		strings.Repeat(",", 99): {want: 0},
	}
	for list, tt := range tests {
		got, err := Parse(list)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("Parse(%q): %v, want an error with %q", list, err, tt.err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("Parse(%q) = %v, %v, want %v", list, got, err, tt.want)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("Parse(%q) = %v, %v, want what was printed", got.String(), again, err)
		}
	}
}

// What a pod records are the single options, whatever they were called.
func TestNames(t *testing.T) {
	var set Options
	for _, list := range []string{"all-run", "image"} {
		if err := set.Set(list); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"image", "capabilities", "paths", "seccomp"}; !slices.Equal(set.Names(), want) {
		t.Errorf("got %q, want %q", set.Names(), want)
	}
	if set.Has(TLS) || !set.Has(Image|Paths) {
		t.Errorf("Has is wrong for %v", set)
	}
}
