package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage0"
)

type logsOptions struct {
	app        string
	follow     bool
	tail       int
	format     string
	timestamps bool
}

const (
	logsRaw = "raw"
	logsCRI = "cri"
)

func newLogsCmd(g *globals) *cobra.Command {
	o := &logsOptions{}
	file := ""
	cmd := &cobra.Command{
		Use:   "logs [flags] UUID | --uuid-file FILE",
		Short: "Print what an app has written",
		Long: `Print what an app of a pod has written: to standard output what it wrote there,
to standard error what it wrote there. What an app writes to its terminal is
kept as standard output.`,
		ValidArgsFunction: completePods(g, nil),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := uuids(args, file, 1)
			if err != nil {
				return err
			}
			if o.format != logsRaw && o.format != logsCRI {
				return fmt.Errorf("format %q is unknown, choose from %s, %s", o.format, logsRaw, logsCRI)
			}
			c, err := g.stage0()
			if err != nil {
				return err
			}
			return o.run(cmd, c, list[0])
		},
	}
	f := cmd.Flags()
	uuidFlag(f, &file)
	f.StringVar(&o.app, "app", "", "`name` of the app, if the pod has several")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on until the pod has ended")
	f.IntVar(&o.tail, "tail", -1, "print only that `many` of the lines that there are already; negative: all")
	f.StringVar(&o.format, "format", logsRaw, "`raw`: what the app wrote; cri: the lines of the log file")
	f.BoolVar(&o.timestamps, "timestamps", false, "start every line with the time when it was written")
	registerAppCompletion(g, cmd)
	return cmd
}

func (o *logsOptions) run(cmd *cobra.Command, c stage0.Config, uuid string) error {
	p, err := stage0.Find(c, uuid)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	m, err := p.Manifest()
	if err != nil {
		return err
	}
	app, err := stage0.ChooseApp(m, o.app)
	if err != nil {
		return err
	}
	log, err := p.Log(app)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	w := &logWriter{o: o, out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()}
	if err := o.past(log, w); err != nil || !o.follow {
		return err
	}
	ended, err := ending(cmd.Context(), c, p.UUID)
	if err != nil {
		return err
	}
	for {
		dead := ended.Err() != nil
		// What was written before the end is read after having seen the end.
		if err := eachLine(log, w.write); err != nil || dead {
			return err
		}
		if err := log.Wait(ended); err != nil && ended.Err() == nil {
			return err
		}
	}
}

// ending gives a context that ends with the pod.
func ending(ctx context.Context, c stage0.Config, uuid string) (context.Context, error) {
	p, err := stage0.Find(c, uuid)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() { // it ends with the pod, or with us
		defer cancel()
		defer func() { _ = p.Close() }()
		_ = p.Wait(ctx)
	}()
	return ctx, nil
}

// past prints what is in the log now.
func (o *logsOptions) past(log *pod.Log, w *logWriter) error {
	if o.tail < 0 {
		return eachLine(log, w.write)
	}
	var kept [][]byte
	ends := 0
	err := eachLine(log, func(line []byte) error {
		kept = append(kept, append([]byte(nil), line...))
		if e, err := pod.ParseLogEntry(line); err != nil || !e.Partial {
			ends++
		}
		for ends > o.tail {
			if e, err := pod.ParseLogEntry(kept[0]); err != nil || !e.Partial {
				ends--
			}
			kept = kept[1:]
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, line := range kept {
		if err := w.write(line); err != nil {
			return err
		}
	}
	return nil
}

func eachLine(log *pod.Log, do func(line []byte) error) error {
	for {
		line, err := log.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(line); err != nil {
			return err
		}
	}
}

// logWriter prints lines of a log.
type logWriter struct {
	o        *logsOptions
	out, err io.Writer
	begun    map[string]bool // streams that are in the middle of a line
}

func (w *logWriter) write(line []byte) error {
	e, err := pod.ParseLogEntry(line)
	if w.o.format == logsCRI || err != nil { // a line that a power cut has spoilt is shown as it is
		_, err := w.out.Write(append(line, '\n'))
		return err
	}
	to := w.out
	if e.Stream == "stderr" {
		to = w.err
	}
	var text []byte
	if w.o.timestamps && !w.begun[e.Stream] {
		text = append(e.Time.UTC().AppendFormat(text, time.RFC3339Nano), ' ')
	}
	text = append(text, e.Text...)
	if !e.Partial {
		text = append(text, '\n')
	}
	if w.begun == nil {
		w.begun = map[string]bool{}
	}
	w.begun[e.Stream] = e.Partial
	_, err = to.Write(text)
	return err
}
