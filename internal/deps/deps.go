// Package deps is temporary: it keeps go.mod complete while the first packages are written.
package deps

import (
	_ "github.com/ProtonMail/go-crypto/openpgp"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/klauspost/compress/gzip"
	_ "github.com/klauspost/compress/zstd"
	_ "github.com/landlock-lsm/go-landlock/landlock"
	_ "github.com/moby/profiles/seccomp"
	_ "github.com/moby/sys/capability"
	_ "github.com/moby/sys/mountinfo"
	_ "github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/fs"
	_ "github.com/opencontainers/cgroups/fs2"
	_ "github.com/opencontainers/go-digest"
	_ "github.com/opencontainers/image-spec/specs-go/v1"
	_ "github.com/opencontainers/runtime-spec/specs-go"
	_ "github.com/regclient/regclient"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/spf13/cobra"
	_ "github.com/vbauerster/mpb/v8"
	_ "golang.org/x/net/bpf"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/term"
)
