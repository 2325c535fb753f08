package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/stage1/internal/control"
)

// enter is the entrypoint that runs one more process in an app, through the
// pod's init. It exits with the process's code.
func enter(args []string) error {
	flags := flag.NewFlagSet("enter", flag.ContinueOnError)
	app := flags.String("app", "", "the app")
	tty := flags.Bool("tty", false, "with a terminal")
	if err := flags.Parse(args); err != nil || flags.NArg() < 2 {
		return errors.New("usage: stage1 enter [--app=NAME] [--tty] UUID -- COMMAND [ARGUMENT…]")
	}
	uuid, command := flags.Arg(0), flags.Args()[1:]
	if command[0] == "--" {
		command = command[1:]
	}
	conn, err := dial(uuid)
	if err != nil {
		return fmt.Errorf("enter pod %s: %w", uuid, err)
	}
	defer unix.Close(conn)
	req := &control.Exec{App: *app, Args: command, Terminal: *tty, Env: terminalEnv(*tty)}
	code, err := session(conn, req)
	if err != nil {
		return fmt.Errorf("enter pod %s: %w", uuid, err)
	}
	return exit(code, nil)
}

func terminalEnv(tty bool) []string {
	if !tty {
		return nil
	}
	term := os.Getenv("TERM")
	if term == "" {
		term = "vt100"
	}
	return []string{"TERM=" + term}
}

// dial connects to the init of a pod.
func dial(uuid string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: filepath.Join(control.RunDir, uuid, control.Socket)})
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
			return -1, errors.New("the pod is not running")
		}
		return -1, fmt.Errorf("connect to its init: %w", err)
	}
	return fd, nil
}

// session runs one process and returns its exit code.
func session(conn int, req *control.Exec) (int, error) {
	var fds []int
	if !req.Terminal {
		fds = []int{0, 1, 2}
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, control.Forwarded...)
	if err := control.Send(conn, control.Request{Exec: req}, fds...); err != nil {
		return failure, err
	}
	var reply control.Reply
	got, err := control.Receive(conn, &reply)
	if err == nil && reply.Error != "" {
		err = errors.New(reply.Error)
	}
	if err != nil {
		return failure, gone(err)
	}
	drained := make(chan struct{})
	master := -1
	if req.Terminal {
		if len(got) != 1 {
			return failure, errors.New("init sent no terminal")
		}
		master = got[0]
		defer restoreTerminal(true)()
		resize(master)
		go copyTo(master, 0)
		go func() { defer close(drained); copyTo(1, master) }()
	} else {
		close(drained)
	}
	go forward(conn, master, signals)
	reply = control.Reply{}
	if _, err := control.Receive(conn, &reply); err != nil {
		return failure, gone(err)
	}
	if reply.Exit == nil {
		return failure, errors.New("init did not say how the process ended")
	}
	<-drained
	return *reply.Exit, nil
}

func gone(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the pod has ended")
	}
	return err
}

func forward(conn, master int, signals chan os.Signal) {
	for sig := range signals {
		if sig == unix.SIGWINCH {
			if master >= 0 {
				resize(master)
			}
			continue
		}
		_ = control.Send(conn, control.Request{Signal: &control.Signal{Number: int(sig.(unix.Signal))}})
	}
}

func resize(master int) {
	if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, size)
	}
}

func copyTo(to, from int) {
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Read(from, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return
		}
		for data := buf[:n]; len(data) > 0; {
			w, err := unix.Write(to, data)
			if err != nil && err != unix.EINTR {
				return
			}
			data = data[max(w, 0):]
		}
	}
}
