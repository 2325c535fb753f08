package tests

import (
	"fmt"
	"os"
	"os/exec"
)

// keyPassword protects the cosign keys.
const keyPassword = "open sesame"

// makeKeys makes two cosign key pairs, of which scripts trust the first.
func (s suite) makeKeys() error {
	if err := os.Mkdir(s.path("keys"), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"cosign", "other"} {
		cmd := exec.Command("cosign3", "generate-key-pair", "--output-key-prefix", name)
		cmd.Dir, cmd.Env = s.path("keys"), append(os.Environ(), "COSIGN_PASSWORD="+keyPassword)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("make a signing key: %w\n%s", err, out)
		}
	}
	// No transparency log, no certificate authority, no time stamps: a key pair only.
	out, err := exec.Command("cosign3", "signing-config", "create", "--out", s.path("keys", "signing-config.json")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make a signing configuration: %w\n%s", err, out)
	}
	return nil
}
