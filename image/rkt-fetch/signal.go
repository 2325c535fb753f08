package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long an interrupted task may take to clean up. What it is
// waiting for then, the kernel cleans up.
const patience = 2 * time.Second

// untilSignal returns a context that ends when this process is told to end.
func untilSignal(task string) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	stopped := make(chan struct{})
	go func() {
		select {
		case <-stopped:
			return
		case s := <-signals:
			cause := fmt.Errorf("%s: interrupted by %s, what was loaded is kept for the next try", task, unix.SignalName(s.(unix.Signal)))
			cancel(cause)
			select {
			case <-stopped:
			case <-time.After(patience):
				fmt.Fprintln(os.Stderr, cause)
				os.Exit(failure) //nolint:forbidigo // the task does not end by itself, which is all that there is to know
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(stopped)
		cancel(nil)
	}
}
