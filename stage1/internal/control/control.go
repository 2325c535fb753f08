// Package control is the protocol between stage1 and the init of a pod.
//
// It runs over a unix socket of type SOCK_SEQPACKET: a packet is one JSON
// message, descriptors travel beside it (unix(7), SCM_RIGHTS). A connection
// is one request: the client sends a Request, init answers with one Reply and,
// for a started process, a second one when that has ended. Closing the
// connection early ends the process.
//
// The socket is reachable by the host's root only.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is the name of the socket in the pod's directory below RunDir.
const Socket = "control"

// RunDir holds a directory per running pod. It does not survive a reboot.
const RunDir = "/run/rkt"

// Descriptors of init, arranged by stage1. Its stdio is that of stage1.
const (
	PodFD    = 4 // the pod directory, whose lock it shares
	SocketFD = 5 // the listening socket
	PlanFD   = 6 // a pipe with the plan
)

// MaxMessage bounds a message, and so the arguments and environment of an
// entering process.
const MaxMessage = 128 << 10

// Request is what a client asks for. Exactly one member is set.
type Request struct {
	Exec   *Exec   `json:"exec,omitempty"`
	Stop   *Stop   `json:"stop,omitempty"`
	Signal *Signal `json:"signal,omitempty"`
}

// Exec starts one more process in the context of an app. Without Terminal it
// comes with three descriptors, the process's stdio.
type Exec struct {
	App      string   `json:"app"`
	Args     []string `json:"args"`
	Env      []string `json:"env,omitempty"` // added to the app's own
	Terminal bool     `json:"terminal,omitempty"`
}

// Stop ends all apps: with their stop signals, and by force after Timeout.
type Stop struct {
	Timeout time.Duration `json:"timeout"`
	Force   bool          `json:"force,omitempty"` // at once
}

// Signal sends a signal to the process that the connection started.
type Signal struct {
	Number int `json:"number"`
}

// Reply answers. The first one to an Exec with Terminal comes with the
// terminal's master.
type Reply struct {
	Error string `json:"error,omitempty"`
	// Exit is the exit code of the started process, as a shell reports it.
	Exit *int `json:"exit,omitempty"`
}

// Send writes one message.
func Send(fd int, msg any, fds ...int) error {
	data, err := json.Marshal(msg)
	if err != nil {
		return err
	}
	if len(data) > MaxMessage {
		return fmt.Errorf("send to the pod's init: the message has %d bytes, at most %d are possible; give fewer arguments", len(data), MaxMessage)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for {
		err = unix.Sendmsg(fd, data, oob, nil, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Receive reads one message into msg. The descriptors are the caller's. The
// end of the connection is io.EOF.
func Receive(fd int, msg any) ([]int, error) {
	buf := make([]byte, MaxMessage)
	oob := make([]byte, unix.CmsgSpace(4*4))
	var (
		n, oobn, flags int
		err            error
	)
	for {
		n, oobn, flags, _, err = unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.ECONNRESET) {
		return nil, io.EOF
	}
	if err != nil {
		return nil, err
	}
	fds, err := rights(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if n == 0 {
		closeAll(fds)
		return nil, io.EOF
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeAll(fds)
		return nil, errors.New("message is too large")
	}
	if err := json.Unmarshal(buf[:n], msg); err != nil {
		closeAll(fds)
		return nil, err
	}
	return fds, nil
}

func rights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, m := range msgs {
		got, err := unix.ParseUnixRights(&m)
		if err != nil {
			closeAll(fds)
			return nil, err
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// Forwarded are the signals that stage1 passes to init, and init to the apps.
// SIGTERM is a request to stop, SIGWINCH tells that the terminal's size
// changed.
var Forwarded = []os.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH,
}
