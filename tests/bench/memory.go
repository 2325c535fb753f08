package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	pods       = 20
	memoryGoal = 3 << 10 // kB beside the app
)

// memory counts what running pods cost beside their apps: the proportional set
// size of every process of ours.
func (b bench) memory() (err error) {
	var running []*exec.Cmd
	defer func() {
		for _, cmd := range running {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			err = errors.Join(err, ignoreKilled(cmd.Wait()))
		}
		_, gc := b.do(b.rkt("gc", "--grace-period=0s")...)
		err = errors.Join(err, gc)
	}()
	for range pods {
		args := b.rkt("run", "--net=none", image, "--exec=/bin/sleep", "--", "1000")
		cmd := exec.Command(args[0], args[1:]...)
		if err := cmd.Start(); err != nil {
			return err
		}
		running = append(running, cmd)
	}
	parts := map[string]int{}
	for _, cmd := range running {
		ours, err := supervisors(cmd.Process.Pid)
		if err != nil {
			return err
		}
		for _, pid := range ours {
			kilobytes, name, err := proportional(pid)
			if err != nil {
				return err
			}
			parts[name] += kilobytes
		}
	}
	fmt.Printf("\nMemory beside the app, PSS, average of %d running pods\n", pods)
	total := 0
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		fmt.Printf("  %-34s %7d kB\n", name, parts[name]/pods)
		total += parts[name] / pods
	}
	missed := ""
	if total > memoryGoal {
		missed = ": MISSED"
	}
	fmt.Printf("  %-34s %7d kB  (goal %d kB%s)\n", "together", total, memoryGoal, missed)
	return nil
}

// supervisors waits until the app of a pod runs and lists the processes above
// it: the one that was started and those between it and the app.
func supervisors(pid int) ([]int, error) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		ours, next := []int{}, pid
		for next != 0 {
			comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", next))
			if err != nil {
				break
			}
			if strings.TrimSpace(string(comm)) == "sleep" {
				return ours, nil
			}
			ours = append(ours, next)
			next = child(next)
		}
	}
	return nil, fmt.Errorf("the app of the pod of process %d does not run", pid)
}

// child is the process that one of a process's threads has started, or 0.
func child(pid int) int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range files {
		data, _ := os.ReadFile(file)
		for word := range strings.FieldsSeq(string(data)) {
			if n, err := strconv.Atoi(word); err == nil {
				return n
			}
		}
	}
	return 0
}

func proportional(pid int) (kilobytes int, name string, err error) {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return 0, "", err
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, "", err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "Pss:"); ok {
			kilobytes, err = strconv.Atoi(strings.Fields(value)[0])
			return kilobytes, trim(string(comm)), err
		}
	}
	return 0, "", fmt.Errorf("process %d has no Pss in smaps_rollup", pid)
}

func trim(s string) string { return strings.TrimSpace(s) }
