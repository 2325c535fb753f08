package stage0

import (
	"context"

	"github.com/rkt/rkt/image/fetcher"
)

// fetch has rkt-fetch bring an app's image into the store, and notes the name
// that it got there. Progress and errors are rkt-fetch's own to print.
func (r *resolver) fetch(ctx context.Context, app App) error {
	o := fetcher.Options{
		Dir: r.c.Dir, SystemConfig: r.c.SystemConfig, LocalConfig: r.c.LocalConfig, UserConfig: r.c.UserConfig,
		Insecure: r.c.Insecure, PullPolicy: string(r.pull), Signature: app.Signature, Quiet: r.quiet, Image: app.Image,
	}
	if app.Signature != "" { // it may be wanted for an image that the store has without
		o.PullPolicy = string(PullUpdate)
	}
	result, err := fetcher.Run(ctx, o)
	if err != nil {
		return err
	}
	r.names[app.Image] = result.Name
	return nil
}
