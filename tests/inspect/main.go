// Command inspect is the app inside test images: it says in JSON what a process
// in a pod sees, and it ends, sleeps, writes or traps signals as it is told.
//
// It is static, links none of rkt's packages and changes nothing unless told to.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = `inspect                     print what this process sees, as JSON
inspect stay                print the same and stay until SIGTERM
inspect exit N              exit with code N
inspect kill SIGNAL         kill itself with a signal number
inspect sleep DURATION      say "ready", then sleep
inspect trap [N [DELAY]]    say "ready", wait for a signal, say which, wait DELAY, exit N
inspect ignore DURATION     say "ready" and ignore SIGTERM for so long
inspect out TEXT…           print to standard output
inspect err TEXT…           print to standard error
inspect cat PATH…           print files
inspect write PATH TEXT     write a file
inspect ls PATH…            list directories
inspect stat PATH…          print mode, owner and device of files
inspect ps                  list the processes in /proc
inspect copy                copy standard input to standard output
inspect spawn N             leave N children behind that sleep for ever
inspect try CALL            attempt a thing that a pod must not do, print the outcome`

func main() {
	// First of all, so that nothing that Go opens can be in the list.
	fds := openFiles()
	if err := run(os.Args[1:], fds); err != nil {
		fmt.Fprintln(os.Stderr, "inspect:", err)
		os.Exit(99)
	}
}

func run(args []string, fds []fd) error {
	if len(args) == 0 {
		return report(fds)
	}
	verb, rest := args[0], args[1:]
	switch verb {
	case "stay":
		if err := report(fds); err != nil {
			return err
		}
		return trap(nil)
	case "exit":
		os.Exit(number(rest, 0))
	case "kill":
		return killSelf(syscall.Signal(number(rest, int(syscall.SIGKILL))))
	case "sleep":
		fmt.Println("ready")
		return sleep(rest)
	case "trap":
		return trap(rest)
	case "ignore":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		return sleep(rest)
	case "out":
		fmt.Println(strings.Join(rest, " "))
	case "err":
		fmt.Fprintln(os.Stderr, strings.Join(rest, " "))
	case "cat":
		return each(rest, cat)
	case "write":
		if len(rest) != 2 {
			return fmt.Errorf("write needs a path and a text")
		}
		return os.WriteFile(rest[0], []byte(rest[1]+"\n"), 0o644)
	case "ls":
		return each(rest, list)
	case "stat":
		return each(rest, stat)
	case "ps":
		return processes()
	case "copy":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "spawn":
		return spawn(number(rest, 1))
	case "try":
		return try(strings.Join(rest, " "))
	default:
		return fmt.Errorf("verb %q is unknown\n%s", verb, usage)
	}
	return nil
}

func report(fds []fd) error {
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(look(fds))
}

func number(args []string, missing int) int {
	if len(args) == 0 {
		return missing
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return 98
	}
	return n
}

func each(paths []string, show func(string) error) error {
	for _, p := range paths {
		if err := show(p); err != nil {
			return err
		}
	}
	return nil
}

// killSelf ends the process by a signal; as PID 1 of a namespace it cannot.
func killSelf(sig syscall.Signal) error {
	signal.Reset(sig)
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	return fmt.Errorf("signal %d did not end the process", sig)
}

func sleep(args []string) error {
	if len(args) == 0 {
		select {}
	}
	d, err := time.ParseDuration(args[0])
	time.Sleep(d)
	return err
}

func trap(args []string) error {
	caught := make(chan os.Signal, 8)
	signal.Notify(caught, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT, syscall.SIGWINCH)
	fmt.Println("ready")
	sig := <-caught
	fmt.Printf("got %s\n", sig)
	if len(args) > 1 {
		if err := sleep(args[1:]); err != nil {
			return err
		}
	}
	os.Exit(number(args, 0))
	return nil
}

func cat(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(data)
	return err
}

func list(path string) error {
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		fmt.Println(filepath.Join(path, e.Name()))
	}
	return err
}

func stat(path string) error {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	fmt.Printf("%s %o %d:%d %d:%d %d\n", path, st.Mode, st.Uid, st.Gid, st.Rdev>>8, st.Rdev&0xff, st.Size)
	return nil
}

func processes() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	sort.Ints(pids)
	for _, pid := range pids {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		fmt.Println(pid, strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " ")))
	}
	return nil
}

// spawn starts children that outlive this process, as a careless app does.
func spawn(n int) error {
	for range n {
		_, err := os.StartProcess("/proc/self/exe", []string{"orphan", "sleep"}, &os.ProcAttr{
			Files: []*os.File{nil, nil, nil}, Sys: &syscall.SysProcAttr{Setsid: true},
		})
		if err != nil {
			return err
		}
	}
	return nil
}
