package table

import (
	"fmt"
	"strings"
	"time"
)

// TimeLayout is how a time is printed in full.
const TimeLayout = "2006-01-02 15:04:05.999 -0700 MST"

// Ago says how long before now something was: "3 hours ago".
func Ago(then, now time.Time) string {
	const day = 24 * time.Hour
	d := now.Sub(then)
	switch {
	case then.IsZero():
		return "-"
	case d < 0:
		return "in the future"
	case d < time.Second:
		return "now"
	}
	for _, unit := range []struct {
		name   string
		length time.Duration
	}{
		{"year", 365 * day}, {"month", 30 * day}, {"week", 7 * day}, {"day", day},
		{"hour", time.Hour}, {"minute", time.Minute},
	} {
		if n := d / unit.length; n == 1 {
			return "1 " + unit.name + " ago"
		} else if n > 1 {
			return fmt.Sprintf("%d %ss ago", n, unit.name)
		}
	}
	if n := d / time.Second; n > 1 {
		return fmt.Sprintf("%d seconds ago", n)
	}
	return "1 second ago"
}

// Bytes is a size in binary units with about two digits: "640 B", "1.5 MiB".
func Bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1023.5 && unit < len("KMGTPE")-1 {
		value /= 1024
		unit++
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[unit])
	}
	return fmt.Sprintf("%.0f %ciB", value, "KMGTPE"[unit])
}

// ShortDigest is a digest with its first 12 hex digits.
func ShortDigest(digest string) string {
	const digits = 12
	if colon := strings.IndexByte(digest, ':'); colon >= 0 && len(digest) > colon+1+digits {
		return digest[:colon+1+digits]
	}
	return digest
}
