package pod

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/atomicfile"
)

// maxStatus bounds apps/<name>/status.json, maxPid the file pid.
const (
	maxStatus = 64 << 10
	maxPid    = 32
)

// Mkdir makes a directory in the pod. name is relative to the pod's directory.
func (p *Pod) Mkdir(name string, perm os.FileMode) error {
	if err := unix.Mkdirat(p.fd(), name, uint32(perm.Perm())); err != nil {
		return p.pathError("mkdir", name, err)
	}
	return nil
}

// Link makes a file of the same file system a file of the pod too. Neither may
// be written again.
func (p *Pod) Link(file, name string) error {
	if err := unix.Linkat(unix.AT_FDCWD, file, p.fd(), name, 0); err != nil {
		return p.pathError("link", name, err)
	}
	return nil
}

// Create writes a new file into the pod.
func (p *Pod) Create(name string, data []byte) (err error) {
	fd, err := unix.Openat(p.fd(), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o640)
	if err != nil {
		return p.pathError("create", name, err)
	}
	defer func() {
		if cerr := unix.Close(fd); err == nil && cerr != nil {
			err = p.pathError("close", name, cerr)
		}
	}()
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return p.pathError("write", name, err)
		}
		data = data[n:]
	}
	return nil
}

// ReadFile reads a regular file of the pod that has at most limit bytes.
func (p *Pod) ReadFile(name string, limit int) ([]byte, error) {
	fd, err := unix.Openat(p.fd(), name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, p.pathError("open", name, err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 0, min(4096, limit+1))
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, p.pathError("read", name, err)
		}
		if n == 0 {
			return buf, nil
		}
		buf = buf[:len(buf)+n]
		if len(buf) > limit {
			return nil, fmt.Errorf("read %q: larger than %d bytes", p.Dir()+"/"+name, limit)
		}
	}
}

func (p *Pod) fd() int { return int(p.lock.File().Fd()) }

func (p *Pod) pathError(op, name string, err error) error {
	return &os.PathError{Op: op, Path: p.Dir() + "/" + name, Err: err}
}

// WriteManifest writes pod.json for the first time.
func (p *Pod) WriteManifest(m *Manifest) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write pod manifest: %w", err)
	}
	return p.Create(ManifestFile, data)
}

// ReplaceManifest changes pod.json at one stroke. The caller holds the lock.
func (p *Pod) ReplaceManifest(m *Manifest) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write pod manifest: %w", err)
	}
	return atomicfile.WriteVolatile(p.Dir()+"/"+ManifestFile, data, 0o640)
}

// RawManifest is pod.json as it is.
func (p *Pod) RawManifest() ([]byte, error) {
	return p.ReadFile(ManifestFile, maxManifest)
}

// Manifest reads pod.json.
func (p *Pod) Manifest() (*Manifest, error) {
	data, err := p.RawManifest()
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.UUID, err)
	}
	if m.UUID != p.UUID {
		return nil, fmt.Errorf("pod %s: read pod manifest: it is that of pod %q", p.UUID, m.UUID)
	}
	return m, nil
}

// AppStatus reads what init has written about an app. Without a word of it
// the app is waiting.
func (p *Pod) AppStatus(name string) (AppStatus, error) {
	data, err := p.ReadFile(path.Join(AppsDir, name, StatusFile), maxStatus)
	if errors.Is(err, fs.ErrNotExist) {
		return AppStatus{State: AppWaiting}, nil
	}
	if err != nil {
		return AppStatus{}, err
	}
	var st AppStatus
	if err := json.Unmarshal(data, &st); err != nil {
		return AppStatus{}, fmt.Errorf("pod %s: read status of app %q: %w", p.UUID, name, err)
	}
	return st, nil
}

// Pid is stage1's process and when it wrote this. The pid is 0 as long as it
// has not.
func (p *Pod) Pid() (pid int, since time.Time, err error) {
	data, err := p.ReadFile(PidFile, maxPid)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		return 0, time.Time{}, nil
	}
	if err != nil {
		return 0, time.Time{}, err
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid < 1 {
		return 0, time.Time{}, fmt.Errorf("pod %s: read pid: %q is not a process id", p.UUID, data)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(p.fd(), PidFile, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, time.Time{}, p.pathError("stat", PidFile, err)
	}
	return pid, time.Unix(st.Mtim.Unix()), nil
}

// changed is the ctime of a directory: rename(2) sets it, and so does a new
// name in it.
func changed(dir *os.File) (time.Time, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return time.Time{}, &os.PathError{Op: "stat", Path: dir.Name(), Err: err}
	}
	return time.Unix(st.Ctim.Unix()), nil
}
