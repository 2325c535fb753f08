package table

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

type row struct{ name, kind string }

var columns = []Column[row]{
	{"name", "NAME", func(r row) string { return r.name }},
	{"kind", "KIND", func(r row) string { return r.kind }},
}

func TestWrite(t *testing.T) {
	rows := []row{{"a", "first"}, {"much longer", ""}, {"nasty\x1b[2J\n\t\xff", "x"}}
	for name, c := range map[string]struct {
		fields []string
		rows   []row
		legend bool
		want   string
	}{
		"all":         {[]string{"name", "kind"}, rows, true, "NAME\t\t\tKIND\na\t\t\tfirst\nmuch longer\t\t\nnasty\\x1b[2J\\n\\t\\xff\tx\n"},
		"without":     {[]string{"name", "kind"}, rows[:1], false, "a\tfirst\n"},
		"other order": {[]string{"kind", "name"}, rows[:1], true, "KIND\tNAME\nfirst\ta\n"},
		"one":         {[]string{"kind"}, rows[:1], true, "KIND\nfirst\n"},
		"no rows":     {[]string{"name"}, nil, true, "NAME\n"},
		"nothing":     {[]string{"name"}, nil, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			selected, err := Select(columns, c.fields)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := Write(&out, selected, c.rows, c.legend); err != nil {
				t.Fatal(err)
			}
			if out.String() != c.want {
				t.Errorf("printed %q, want %q", &out, c.want)
			}
		})
	}
}

func TestSelectRefuses(t *testing.T) {
	_, err := Select(columns, []string{"name", "size"})
	if want := `field "size" is unknown, choose from name, kind`; err == nil || err.Error() != want {
		t.Errorf("Select = %v, want %s", err, want)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteFails(t *testing.T) {
	if err := Write(full{}, columns, []row{{"a", "b"}}, true); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("Write = %v", err)
	}
	if err := JSON.Encode(full{}, 1); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("Encode = %v", err)
	}
}

func TestFormat(t *testing.T) {
	for value, want := range map[string]string{
		"json":        "[{\"name\":\"<a>\"}]\n",
		"json-pretty": "[\n\t{\n\t\t\"name\": \"<a>\"\n\t}\n]\n",
	} {
		var f Format
		if err := f.Set(value); err != nil || f.String() != value {
			t.Fatalf("Set(%q) = %v, is %q", value, err, f)
		}
		var out bytes.Buffer
		if err := f.Encode(&out, []map[string]string{{"name": "<a>"}}); err != nil || out.String() != want {
			t.Errorf("%s: %q, %v, want %q", value, &out, err, want)
		}
	}
	var f Format
	if err := f.Set("yaml"); err == nil || f != Text {
		t.Errorf("Set(yaml) = %v, is %q", err, f)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"reg.example/app:1": "reg.example/app:1",
		`a "b" \ c`:         `a "b" \ c`,
		"grün 日本":           "grün 日本",
		"a\nb":              `a\nb`,
		"\"\x1b]0;x\a":      `"\x1b]0;x\a`,
		"\xff":              `\xff`,
		"\u202e":            `\u202e`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		-time.Second: "in the future", 0: "now", 999 * time.Millisecond: "now",
		time.Second: "1 second ago", 59 * time.Second: "59 seconds ago", time.Minute: "1 minute ago",
		119 * time.Minute: "1 hour ago", 2 * time.Hour: "2 hours ago", 47 * time.Hour: "1 day ago",
		8 * day: "1 week ago", 29 * day: "4 weeks ago", 31 * day: "1 month ago", 364 * day: "12 months ago", 800 * day: "2 years ago",
	} {
		if got := Ago(now.Add(-d), now); got != want {
			t.Errorf("Ago(%v) = %q, want %q", d, got, want)
		}
	}
	if got := Ago(time.Time{}, now); got != "-" {
		t.Errorf("Ago of no time = %q", got)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 10137: "9.9 KiB", 10239: "10 KiB", 1<<20 - 1: "1.0 MiB",
		1 << 20: "1.0 MiB", 3 << 29: "1.5 GiB", 500 << 20: "500 MiB", math.MaxInt64: "8.0 EiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestShortDigest(t *testing.T) {
	for in, want := range map[string]string{
		"sha256:0123456789abcdef": "sha256:0123456789ab",
		"sha256:0123456789ab":     "sha256:0123456789ab",
		"sha256:01":               "sha256:01",
		"0123456789abcdef":        "0123456789abcdef",
		"":                        "",
	} {
		if got := ShortDigest(in); got != want {
			t.Errorf("ShortDigest(%q) = %q, want %q", in, got, want)
		}
	}
}
