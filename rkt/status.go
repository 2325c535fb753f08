package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/internal/table"
	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage0"
)

func newStatusCmd(g *globals) *cobra.Command {
	file := ""
	var wait waitFlag
	var format table.Format
	cmd := &cobra.Command{
		Use:               "status [--wait[=DURATION]] UUID | --uuid-file FILE",
		Short:             "Print the status of a pod",
		ValidArgsFunction: completePods(g, nil),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := uuids(args, file, 1)
			if err != nil {
				return err
			}
			c, err := g.stage0()
			if err != nil {
				return err
			}
			p, err := stage0.Find(c, list[0])
			if err != nil {
				return err
			}
			defer func() { _ = p.Close() }()
			if err := wait.until(cmd.Context(), p); err != nil {
				return err
			}
			info, err := p.Info()
			if errors.Is(err, pod.ErrNotFound) {
				return fmt.Errorf("pod %s has been removed", p.UUID)
			}
			if err != nil {
				return err
			}
			if format != table.Text {
				return format.Encode(cmd.OutOrStdout(), viewPod(info))
			}
			if err := printStatus(cmd.OutOrStdout(), info); err != nil {
				return err
			}
			return info.Err
		},
	}
	f := cmd.Flags()
	uuidFlag(f, &file)
	f.Var(&wait, "wait", "wait until the pod has ended, for at most a duration")
	f.Lookup("wait").NoOptDefVal = "true"
	f.Var(&format, "format", table.FormatUsage)
	return cmd
}

func printStatus(w io.Writer, info pod.Info) error {
	v := viewPod(info)
	var b strings.Builder
	line := func(key, value string) { b.WriteString(key + "=" + value + "\n") }
	line("state", string(v.State))
	if v.Created != nil {
		line("created", v.Created.Local().Format(table.TimeLayout))
	}
	if v.Started != nil {
		line("started", v.Started.Local().Format(table.TimeLayout))
	}
	if v.State == pod.Running || v.State.Dead() {
		line("networks", v.Net)
	}
	if v.Pid != 0 {
		line("pid", strconv.Itoa(v.Pid))
	}
	if len(v.Insecure) > 0 {
		line("insecure", strings.Join(v.Insecure, ","))
	}
	line("exited", strconv.FormatBool(v.State.Dead()))
	for _, app := range v.Apps {
		if app.ExitCode != nil && v.State != pod.Running {
			line("app-"+app.Name, strconv.Itoa(*app.ExitCode))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// waitFlag is --wait: "true" and negative durations mean for ever.
type waitFlag struct {
	on    bool
	limit time.Duration // 0: none
}

func (f *waitFlag) Set(s string) error {
	if on, err := strconv.ParseBool(s); err == nil {
		*f = waitFlag{on: on}
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is neither a duration, such as 10s, nor true or false", s)
	}
	*f = waitFlag{on: true, limit: max(d, 0)}
	return nil
}

func (f *waitFlag) String() string { return "" }
func (f *waitFlag) Type() string   { return "duration" }

func (f *waitFlag) until(ctx context.Context, p *pod.Pod) error {
	if !f.on {
		return nil
	}
	if f.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.limit)
		defer cancel()
	}
	err := p.Wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("pod %s has not ended within %s", p.UUID, f.limit)
	}
	return err
}
