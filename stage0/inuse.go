package stage0

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/store"
)

// InUse gives what the pods of a data directory need of the store. It is what
// store.GC asks under its lock.
func InUse(dir string) (store.InUse, error) {
	used := store.InUse{Blobs: map[digest.Digest]bool{}, Layers: map[string]bool{}}
	pods, err := pod.In(dir).List()
	if err != nil {
		return used, err
	}
	for _, info := range pods {
		if info.Manifest == nil {
			if err := mayRun(info); err != nil {
				return used, err
			}
			continue
		}
		for _, app := range info.Manifest.Apps {
			for _, d := range []string{app.Image.Digest, app.Image.Index, app.Image.Evidence} {
				if d != "" {
					used.Blobs[digest.Digest(d)] = true
				}
			}
			for _, layer := range app.Lower {
				used.Layers[filepath.Base(layer)] = true
			}
		}
	}
	return used, nil
}

// mayRun gives an error if a pod whose manifest cannot be read may need an
// image. One that is being prepared does not: its maker shares the lock that
// image collection holds alone, until the manifest is written.
func mayRun(info pod.Info) error {
	if info.Phase.Dead() || info.Phase == pod.Preparing || info.Phase == pod.AbortedPrepare {
		return nil
	}
	err := info.Err
	if err == nil {
		err = errors.New("it has no manifest")
	}
	return fmt.Errorf("find the images in use: pod %s is %s: %w; remove it with 'rkt rm %s'", info.UUID, info.Phase, err, info.UUID)
}
