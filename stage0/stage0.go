// Package stage0 is the conductor: it joins images, the store and pods, and
// ends in the exec of a stage1.
//
// What it does to a pod is what a verb of the command line means: Prepare, Run,
// RunPrepared, Enter, Stop, Remove, GC. It neither prints nor exits, never
// reads a byte that an image's author chose other than the manifest and
// configuration that the store has verified, and never mounts anything.
//
// Documentation/devel/pod-lifecycle.md and Documentation/devel/on-disk-format.md
// say what it leaves on disk, Documentation/devel/stage1-contract.md what it
// asks of stage1.
package stage0

import (
	"github.com/rkt/rkt/internal/insecure"
	"github.com/rkt/rkt/pod"
)

// Config is what every verb has to know. All directories are absolute.
type Config struct {
	Dir          string // images and pods
	SystemConfig string
	LocalConfig  string
	UserConfig   string // may be ""
	Insecure     insecure.Options
	Debug        bool
	// Stage1 runs new pods. The zero value is the native one that belongs to
	// this rkt.
	Stage1 pod.Stage1
}

func (c Config) pods() pod.Pods { return pod.In(c.Dir) }

// Find opens the pod that a UUID or the start of one names.
func Find(c Config, uuid string) (*pod.Pod, error) { return c.pods().Find(uuid) }

// List looks at all pods.
func List(c Config) ([]pod.Info, error) { return c.pods().List() }
