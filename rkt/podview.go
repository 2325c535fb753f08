package main

import (
	"time"

	"github.com/rkt/rkt/pod"
)

// podView is a pod as list and status print it with --format. It is described
// in Documentation/commands/list.md. Times are RFC 3339; what is not known yet,
// or not any more, is left out.
type podView struct {
	UUID     string     `json:"uuid"`
	State    pod.Phase  `json:"state"`
	Created  *time.Time `json:"created,omitempty"`
	Started  *time.Time `json:"started,omitempty"`
	Finished *time.Time `json:"finished,omitempty"`
	Pid      int        `json:"pid,omitempty"`
	Hostname string     `json:"hostname,omitempty"`
	Net      string     `json:"net,omitempty"`
	Stage1   string     `json:"stage1,omitempty"`
	Insecure []string   `json:"insecure"`
	Apps     []appView  `json:"apps"`
	Error    string     `json:"error,omitempty"`
}

type appView struct {
	Name     string     `json:"name"`
	State    string     `json:"state"`
	Image    imageView  `json:"image"`
	Verified bool       `json:"verified"`
	Trust    string     `json:"trust,omitempty"`
	Pid      int        `json:"pid,omitempty"`
	Started  *time.Time `json:"started,omitempty"`
	Finished *time.Time `json:"finished,omitempty"`
	ExitCode *int       `json:"exitCode,omitempty"`
	Signal   string     `json:"signal,omitempty"`
	Error    string     `json:"error,omitempty"`
}

type imageView struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

func viewPod(info pod.Info) podView {
	v := podView{
		UUID: info.UUID, State: info.Phase, Pid: info.Pid,
		Started: known(info.Started), Finished: known(info.Finished),
		Insecure: []string{}, Apps: []appView{},
	}
	if info.Err != nil {
		v.Error = info.Err.Error()
	}
	m := info.Manifest
	if m == nil {
		return v
	}
	v.Created, v.Hostname, v.Net, v.Stage1 = known(m.Created), m.Hostname, m.Net, m.Stage1.Flavour
	v.Insecure = append(v.Insecure, m.Insecure...)
	for i, app := range m.Apps {
		a := appView{
			Name: app.Name, Image: imageView{Name: app.Image.Name, Digest: app.Image.Digest},
			Verified: app.Image.Verified, Trust: app.Image.Trust,
		}
		if i < len(info.Apps) {
			st := info.Apps[i]
			a.State, a.Pid, a.Started, a.Finished = st.State, st.Pid, st.Started, st.Finished
			a.ExitCode, a.Signal, a.Error = st.ExitCode, st.Signal, st.Error
		}
		v.Apps = append(v.Apps, a)
	}
	return v
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
