package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage1/internal/control"
	"github.com/rkt/rkt/stage1/internal/plan"
)

// saveStatus replaces the app's status file. It is not synced: after a power
// cut the pod is over, whatever its files say.
func (a *app) saveStatus() error {
	data, err := json.Marshal(&a.status)
	if err != nil {
		return err
	}
	name := a.file(pod.StatusFile)
	f, err := createAt(name+".new", unix.O_TRUNC)
	if err == nil {
		_, err = f.Write(data)
		f.Close()
	}
	if err == nil {
		err = unix.Renameat(control.PodFD, name+".new", control.PodFD, name)
	}
	if err != nil {
		return fmt.Errorf("save status of app %q: %w", a.plan.Name, err)
	}
	return nil
}

// failAll notes for every app why none of them was started.
func failAll(p *plan.Pod, why error) error {
	now, code := time.Now(), failure
	status := pod.AppStatus{State: pod.AppExited, Finished: &now, ExitCode: &code, Error: why.Error()}
	for i := range p.Apps {
		a := &app{plan: &p.Apps[i], status: status}
		if err := a.saveStatus(); err != nil {
			return err
		}
	}
	return nil
}

// file is a file of the app, relative to the pod directory.
func (a *app) file(name string) string {
	return pod.AppsDir + "/" + a.plan.Name + "/" + name
}

// createAt opens a file of the pod directory for writing.
func createAt(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(control.PodFD, name, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW|flags, 0o640)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
