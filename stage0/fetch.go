package stage0

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	args := []string{
		"fetch", "--dir=" + r.c.Dir, "--system-config=" + r.c.SystemConfig, "--local-config=" + r.c.LocalConfig,
		"--user-config=" + r.c.UserConfig, "--insecure-options=" + r.c.Insecure.String(), "--pull-policy=" + string(r.pull),
	}
	if app.Signature != "" {
		args = append(args, "--signature="+app.Signature)
	}
	var out bytes.Buffer
	said := &tail{limit: 4096}
	cmd := exec.CommandContext(ctx, path, append(args, "--", app.Image)...)
	cmd.Stdout, cmd.Stderr = &out, said
	if r.progress != nil {
		cmd.Stderr = r.progress
	}
	if err := cmd.Run(); err != nil {
		var code *exec.ExitError
		switch text := said.String(); {
		case !errors.As(err, &code) || code.ExitCode() < 0 || r.progress == nil && text == "":
			return fmt.Errorf("fetch image %q: rkt-fetch: %w", app.Image, err)
		case r.progress == nil:
			return errors.New(text)
		}
		return ErrSaid
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
