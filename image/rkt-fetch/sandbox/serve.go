package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/image/unpack"
)

// Serve is the child: it confines itself, unpacks what it was told to, and
// writes its answer. Failing to unpack is an answer; an error is returned only
// by a process that was not started by Run. Afterwards the process is of no
// use for anything else.
func Serve(args []string, stdin io.Reader, stdout io.Writer) error {
	var r Request
	if len(args) != 1 || json.Unmarshal([]byte(args[0]), &r) != nil {
		return errors.New("rkt-fetch unpack is started by rkt-fetch itself, to unpack a layer")
	}
	var a answer
	var err error
	a.Result, err = serve(r, stdin)
	if err != nil {
		a.Error = err.Error()
		_ = errors.As(err, &a.Limit)
		a.Damaged = errors.Is(err, unpack.ErrDamaged)
		a.DiffID = errors.Is(err, unpack.ErrDiffID)
	}
	line, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	_, err = stdout.Write(append(line, '\n'))
	return err
}

func serve(r Request, stdin io.Reader) (Result, error) {
	var st unix.Stat_t
	if err := unix.Fstat(targetFD, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return Result{}, errors.New("no directory to unpack into was handed over")
	}
	target := os.NewFile(targetFD, "target")
	defer target.Close()
	landlock, err := confine(target, r.Limits.MaxSize())
	if err != nil {
		return Result{}, fmt.Errorf("confine the unpacking process: %w", err)
	}
	// Most of what unpacking allocates is garbage at once: collect seldom, but
	// well before the kernel refuses memory.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(maxMemory * 3 / 4)
	o := unpack.Options{MediaType: r.MediaType, Size: r.Size, DiffID: r.DiffID, Limits: r.Limits}
	ctx := context.Background() // the parent ends us by a signal
	var stats unpack.Stats
	if r.Merge {
		stats, err = merge(ctx, stdin, target, o)
	} else {
		stats, err = unpack.Layer(ctx, stdin, target, o)
	}
	return Result{Stats: stats, Landlock: landlock}, err
}

// merge unpacks into a directory beside Rootfs and moves from there.
func merge(ctx context.Context, blob io.Reader, work *os.File, o unpack.Options) (unpack.Stats, error) {
	fd := int(work.Fd())
	if err := unix.Mkdirat(fd, staging, 0o700); err != nil {
		return unpack.Stats{}, fmt.Errorf("make a directory for the layer: %w", err)
	}
	layer, err := openAt(fd, staging)
	if err != nil {
		return unpack.Stats{}, err
	}
	defer layer.Close()
	root, err := openAt(fd, Rootfs)
	if err != nil {
		return unpack.Stats{}, err
	}
	defer root.Close()
	stats, err := unpack.Layer(ctx, blob, layer, o)
	if err == nil {
		err = unpack.Merge(ctx, layer, root)
	}
	if err == nil {
		err = unpack.Remove(work, staging)
	}
	return stats, err
}

func openAt(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open directory %q: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
