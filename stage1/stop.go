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

// stop is the entrypoint that ends a running pod. It returns when init has
// taken the request, or, with --force, has been ended without being asked. The
// pod is over when its lock is free.
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
	killStage1()
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

// ask sends the request.
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

// killStage1 kills the process that the pid file names, if it is still the one
// that holds the pod's lock: between opening it and looking at the lock it
// cannot have been replaced by another process of that number.
func killStage1() {
	data, err := os.ReadFile(pod.PidFile)
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	dir, err := unix.Open(".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	if unix.Flock(dir, unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
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
