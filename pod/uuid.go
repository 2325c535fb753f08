package pod

import (
	"encoding/hex"
	"fmt"

	"golang.org/x/sys/unix"
)

// newUUID makes a random UUID (RFC 9562, version 4).
func newUUID() (string, error) {
	var b [16]byte
	for filled := 0; filled < len(b); {
		n, err := unix.Getrandom(b[filled:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("make a UUID: %w", err)
		}
		filled += n
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:], nil
}

// IsUUID reports whether s is a whole UUID in the lower-case form that names a
// pod directory.
func IsUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
