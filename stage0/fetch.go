package stage0

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/rkt/rkt/internal/program"
)

// ErrSaid says that something failed and that the program which did it has
// told the caller why, on standard error.
var ErrSaid = errors.New("see above")

// fetch has rkt-fetch bring an app's image into the store, and notes the name
// that it got there. Progress and errors are rkt-fetch's own to print.
func (r *resolver) fetch(ctx context.Context, app App) error {
	path, err := program.Find("rkt-fetch")
	if err != nil {
		return fmt.Errorf("fetch image %q: %w", app.Image, err)
	}
	pull := r.pull
	if app.Signature != "" { // it may be wanted for an image that the store has without
		pull = PullUpdate
	}
	args := []string{
		"fetch", "--dir=" + r.c.Dir, "--system-config=" + r.c.SystemConfig, "--local-config=" + r.c.LocalConfig,
		"--user-config=" + r.c.UserConfig, "--insecure-options=" + r.c.Insecure.String(), "--pull-policy=" + string(pull),
	}
	if app.Signature != "" {
		args = append(args, "--signature="+app.Signature)
	}
	if r.quiet {
		args = append(args, "--quiet")
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, path, append(args, "--", app.Image)...)
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		var code *exec.ExitError
		if errors.As(err, &code) && code.ExitCode() > 0 {
			return ErrSaid
		}
		return fmt.Errorf("fetch image %q: rkt-fetch: %w", app.Image, err)
	}
	var result struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(out.Bytes(), &result); err != nil || result.Name == "" {
		return fmt.Errorf("fetch image %q: rkt-fetch gave no name", app.Image)
	}
	r.names[app.Image] = result.Name
	return nil
}
