package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/linux"
	"github.com/rkt/rkt/internal/rlimit"
	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage1/internal/cgroup"
	"github.com/rkt/rkt/stage1/internal/control"
	"github.com/rkt/rkt/stage1/internal/plan"
)

// teardown is how long the kernel may take to let go of a pod that has ended.
const teardown = 5 * time.Second

// maxFile bounds what is read of a pod's own files.
const maxFile = 4 << 20

// sandbox is what a running pod has outside of its own namespaces. Removing it
// is always safe: it is named by the pod's UUID, and recorded before it is
// made.
type sandbox struct {
	runDir  string
	cgroups []cgroup.Hierarchy
	apps    []string
}

// run is the entrypoint that becomes the pod.
func run(args []string) (err error) {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	debug := flags.Bool("debug", false, "print the plan")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		return errors.New("usage: stage1 run [--debug] UUID")
	}
	lock, err := lockFD()
	if err != nil {
		return err
	}
	m, p, err := readPod(flags.Arg(0))
	if err != nil {
		return err
	}
	if *debug {
		text, _ := json.MarshalIndent(p, "", "  ")
		fmt.Fprintf(os.Stderr, "plan of pod %s: %s\n", p.UUID, text)
	}
	// From here on there is something to give back, so a signal waits until
	// init can take it.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, control.Forwarded...)
	s := &sandbox{runDir: p.Base, cgroups: p.Cgroups}
	for i := range p.Apps {
		s.apps = append(s.apps, p.Apps[i].Name)
	}
	code, err := s.run(m, p, lock, signals)
	return errors.Join(err, s.remove(), exit(code, err))
}

// exit is the pod's code as an error, if there is no other.
func exit(code int, err error) error {
	if err != nil || code == 0 {
		return nil
	}
	return exitCode(code)
}

func (s *sandbox) run(m *pod.Manifest, p *plan.Pod, lock int, signals chan os.Signal) (int, error) {
	socket, err := s.create()
	if err != nil {
		return failure, err
	}
	defer restoreTerminal(p.Terminal)()
	pid, pidfd, err := startInit(m, p, lock, socket)
	unix.Close(socket)
	if err != nil {
		return failure, err
	}
	go func() {
		for sig := range signals {
			_ = unix.PidfdSendSignal(pidfd, sig.(unix.Signal), nil, 0) // it may have ended
		}
	}()
	return wait(pid)
}

// lockFD is the descriptor that holds the pod's lock. It stays open until the
// process ends, and must not reach any process but init.
func lockFD() (int, error) {
	fd, err := strconv.Atoi(os.Getenv(pod.LockFDEnv))
	if err != nil || fd <= 2 {
		return -1, fmt.Errorf("%s must be the descriptor of the locked pod directory", pod.LockFDEnv)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return -1, fmt.Errorf("descriptor %d of the pod directory: %w", fd, err)
	}
	return fd, nil
}

// readPod reads the pod in the working directory and plans it.
func readPod(uuid string) (*pod.Manifest, *plan.Pod, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, nil, err
	}
	data, err := linux.ReadFile(unix.AT_FDCWD, pod.ManifestFile, maxFile)
	if err != nil {
		return nil, nil, err
	}
	m, err := pod.ParseManifest(data)
	if err != nil {
		return nil, nil, err
	}
	if m.UUID != uuid {
		return nil, nil, fmt.Errorf("pod %s: the manifest is that of pod %s", uuid, m.UUID)
	}
	configs := map[string]*plan.Config{}
	for _, a := range m.Apps {
		if configs[a.Name], err = readConfig(a.Name); err != nil {
			return nil, nil, fmt.Errorf("pod %s: app %q: %w", uuid, a.Name, err)
		}
	}
	groups, err := cgroup.ForPod(uuid)
	if err != nil {
		return nil, nil, err
	}
	_, err = unix.IoctlGetTermios(0, unix.TCGETS)
	p, err := plan.Make(m, configs, dir, filepath.Join(control.RunDir, uuid), groups, err == nil)
	return m, p, err
}

func readConfig(app string) (*plan.Config, error) {
	data, err := linux.ReadFile(unix.AT_FDCWD, filepath.Join(pod.AppsDir, app, pod.ConfigFile), maxFile)
	if err != nil {
		return nil, err
	}
	return plan.ParseConfig(data)
}

// create makes what the pod has outside, and returns the control socket.
func (s *sandbox) create() (int, error) {
	if err := linux.WriteFile(unix.AT_FDCWD, pod.CgroupFile, []byte(strings.Join(cgroup.Dirs(s.cgroups), "\n")+"\n"), 0o640); err != nil {
		return -1, fmt.Errorf("record cgroups: %w", err)
	}
	if err := cgroup.Create(s.cgroups, s.apps); err != nil {
		return -1, err
	}
	if err := unix.Mkdir(s.runDir, 0o700); err != nil {
		// The first pod since the host was booted, or a leftover.
		if err := os.MkdirAll(s.runDir, 0o700); err != nil {
			return -1, fmt.Errorf("make run directory: %w", err)
		}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	path := filepath.Join(s.runDir, control.Socket)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make control socket %q: %w", path, err)
	}
	if err := unix.Listen(fd, 64); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("listen", err)
	}
	return fd, nil
}

// remove gives back what create made.
func (s *sandbox) remove() error {
	err := cgroup.RemoveKnown(s.cgroups, s.apps, time.Now().Add(teardown/5))
	if err != nil { // an app had made more
		err = cgroup.Remove(cgroup.Dirs(s.cgroups), time.Now().Add(teardown))
	}
	_ = unix.Unlink(filepath.Join(s.runDir, control.Socket))
	if rmErr := unix.Rmdir(s.runDir); rmErr != nil && !errors.Is(rmErr, unix.ENOENT) {
		rmErr = os.RemoveAll(s.runDir)
		err = errors.Join(err, rmErr)
	}
	return err
}

// startInit makes the pod's namespaces with its init in them and hands it the
// plan. If we die before, init finds the plan incomplete and ends; if later,
// the kernel ends it.
func startInit(m *pod.Manifest, p *plan.Pod, lock, socket int) (pid, pidfd int, err error) {
	data, err := json.Marshal(p)
	if err != nil {
		return 0, -1, err
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, -1, os.NewSyscallError("pipe2", err)
	}
	pid, pidfd, err = makeInit(m, p, [3]int{lock, socket, pipe[0]})
	// Only init has the reading end now, so that a dead init is noticed.
	unix.Close(pipe[0])
	if err == nil {
		err = sendPlan(pipe[1], data)
	}
	unix.Close(pipe[1])
	if err != nil {
		return 0, -1, fmt.Errorf("start init of pod %s: %w", p.UUID, err)
	}
	if err := linux.WriteFile(unix.AT_FDCWD, pod.PidFile, strconv.AppendInt(nil, int64(os.Getpid()), 10), 0o640); err != nil {
		return 0, -1, fmt.Errorf("record pid: %w", err)
	}
	return pid, pidfd, nil
}

func sendPlan(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EPIPE): // a dead init has said why itself
			return nil
		case err != nil:
			return fmt.Errorf("send the plan: %w", err)
		default:
			data = data[n:]
		}
	}
	return nil
}

// makeInit makes the process. fds are what init gets; here they stay open.
func makeInit(m *pod.Manifest, p *plan.Pod, fds [3]int) (pid, pidfd int, err error) {
	place, err := cgroup.Open(p.Cgroups, "")
	if err != nil {
		return 0, -1, err
	}
	defer place.Close()
	program, err := openProgram(m.Stage1.Init)
	if err != nil {
		return 0, -1, err
	}
	defer program.Close()
	// What the script moves must not be where it moves something else.
	var high []int
	defer func() {
		for _, fd := range high {
			unix.Close(fd)
		}
	}()
	for _, fd := range append(fds[:], program.FD()) {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstFree)
		if err != nil {
			return 0, -1, os.NewSyscallError("fcntl", err)
		}
		high = append(high, dup)
	}
	s := initScript(p, place, high)
	// init is told to die with the thread that made it, PR_SET_PDEATHSIG, so
	// that thread must live as long as we do.
	runtime.LockOSThread()
	return s.Start()
}

// openProgram is the program on a read-only mount of its own, so that nothing
// that runs it can ever write it (CVE-2019-5736).
func openProgram(path string) (*linux.Mount, error) {
	m, err := linux.Clone(unix.AT_FDCWD, path, false)
	if err != nil {
		return nil, fmt.Errorf("open init: %w", err)
	}
	if err := m.SetAttr(unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID, 0, 0, false); err != nil {
		m.Close()
		return nil, fmt.Errorf("open init: %w", err)
	}
	return m, nil
}

// initFDs are the numbers that init knows its descriptors by, firstFree is
// beyond them.
var initFDs = [3]int{control.PodFD, control.SocketFD, control.PlanFD}

const firstFree = control.PlanFD + 1

// initScript is the process that becomes init. fds are what becomes initFDs,
// and init's program; nothing else but stdio stays open.
func initScript(p *plan.Pod, place *cgroup.Place, fds []int) *linux.Script {
	flags := uint64(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
	if p.Loopback {
		flags |= unix.CLONE_NEWNET
	}
	s := linux.NewScript(flags)
	s.SetCgroup(place.V2)
	for _, fd := range place.Tasks {
		s.Call("join cgroup", unix.SYS_WRITE, uintptr(fd), s.Str("0"), 1)
	}
	s.Call("die with stage1", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	s.Call("start session", unix.SYS_SETSID)
	for i, number := range initFDs {
		s.Call("arrange descriptors", unix.SYS_DUP3, uintptr(fds[i]), uintptr(number), 0)
	}
	s.CloseFrom(firstFree, unix.CLOSE_RANGE_CLOEXEC)
	s.Try("close descriptor", unix.SYS_CLOSE, 3) // nobody's
	s.Call("restore limit of open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, linux.Ptr(s, &rlimit.NoFile), 0)
	s.Unblock()
	// One thread is enough for init, and costs the least memory.
	s.ExecFD(fds[len(initFDs)], "stage1-init", []string{"stage1-init"}, []string{"GOMAXPROCS=1"})
	return s
}

// wait waits for init and returns the pod's exit code.
func wait(pid int) (int, error) {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return failure, os.NewSyscallError("wait4", err)
		}
	}
	if ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return ws.ExitStatus(), nil
}
