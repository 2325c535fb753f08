package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage1/internal/cgroup"
	"github.com/rkt/rkt/stage1/internal/control"
)

// stop is the entrypoint that ends a running pod. It returns when init is
// gone.
func stop(args []string) error {
	flags := flag.NewFlagSet("stop", flag.ContinueOnError)
	force := flags.Bool("force", false, "do not ask the apps")
	timeout := flags.Int("timeout", 0, "seconds until apps are killed; 0: each app's own")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		return errors.New("usage: stage1 stop [--force] [--timeout=SECONDS] UUID")
	}
	uuid := flags.Arg(0)
	err := ask(uuid, control.Stop{Timeout: time.Duration(*timeout) * time.Second, Force: *force})
	if err == nil || !*force {
		return wrapStop(uuid, err)
	}
	// init does not answer. Nothing of the pod survives its stage1, and
	// nothing of its cgroups survives this.
	if pid, err := readPid(); err == nil {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	dirs, err := readCgroups()
	if err == nil {
		err = cgroup.Kill(dirs, time.Now().Add(teardown))
	}
	return wrapStop(uuid, err)
}

func wrapStop(uuid string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("stop pod %s: %w", uuid, err)
}

// ask sends the request and waits until init, and so the pod, is gone.
func ask(uuid string, req control.Stop) error {
	conn, err := dial(uuid)
	if err != nil {
		return err
	}
	defer unix.Close(conn)
	if req.Force {
		// An init that hangs must not make us hang.
		tv := unix.NsecToTimeval(int64(teardown))
		_ = unix.SetsockoptTimeval(conn, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	}
	if err := control.Send(conn, control.Request{Stop: &req}); err != nil {
		return err
	}
	var reply control.Reply
	if _, err := control.Receive(conn, &reply); err != nil {
		return gone(err)
	}
	if reply.Error != "" {
		return errors.New(reply.Error)
	}
	return nil
}

func readPid() (int, error) {
	data, err := os.ReadFile(pod.PidFile)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

func readCgroups() ([]string, error) {
	data, err := os.ReadFile(pod.CgroupFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(data)), nil
}
