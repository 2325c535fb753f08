package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rkt/rkt/pod"
	"github.com/rkt/rkt/stage0"
	"github.com/rkt/rkt/store"
)

func newCompletionCmd(*globals) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the completion script of a shell",
		Long: `Print a script that makes a shell complete rkt's verbs, flags, UUIDs and images:

  bash: source <(rkt completion bash)
  zsh:  rkt completion zsh >"${fpath[1]}/_rkt"
  fish: rkt completion fish >~/.config/fish/completions/rkt.fish`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			switch strings.Join(args, " ") {
			case "bash":
				return cmd.Root().GenBashCompletionV2(out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(out)
			case "fish":
				return cmd.Root().GenFishCompletion(out, true)
			default:
				return fmt.Errorf("shell %q is unknown, choose from bash, zsh, fish", strings.Join(args, " "))
			}
		},
	}
}

// completer proposes words for a verb's arguments.
type completer = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective)

func isRunning(p pod.Phase) bool  { return p == pod.Running }
func isPrepared(p pod.Phase) bool { return p == pod.Prepared }
func isIdle(p pod.Phase) bool     { return p != pod.Running && p != pod.Preparing }

// completePods proposes the pods of the wanted phases, or all.
func completePods(g *globals, wanted func(pod.Phase) bool) completer {
	return func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		c, err := g.stage0()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		list, err := stage0.List(c)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var words []string
		for _, info := range list {
			if !strings.HasPrefix(info.UUID, word) || slices.Contains(args, info.UUID) || wanted != nil && !wanted(info.Phase) {
				continue
			}
			words = append(words, info.UUID+"\t"+string(info.Phase)+" "+strings.Join(appNames(info.Manifest), " "))
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

func appNames(m *pod.Manifest) []string {
	if m == nil {
		return nil
	}
	var names []string
	for _, app := range m.Apps {
		names = append(names, app.Name)
	}
	return names
}

// completeImages proposes the images of the store, and files.
func completeImages(g *globals) completer {
	return func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		c, err := g.stage0()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		if _, err := os.Stat(filepath.Join(c.Dir, "images")); err != nil { // Open would make it
			return nil, cobra.ShellCompDirectiveDefault
		}
		s, err := store.Open(c.Dir)
		if err != nil {
			return nil, cobra.ShellCompDirectiveDefault
		}
		images, err := s.Images()
		if err != nil {
			return nil, cobra.ShellCompDirectiveDefault
		}
		var words []string
		for _, img := range images {
			if strings.HasPrefix(img.Name, word) {
				words = append(words, img.Name)
			}
		}
		return words, cobra.ShellCompDirectiveDefault
	}
}

// registerAppCompletion completes --app with the apps of the pod that is named
// on the command line.
func registerAppCompletion(g *globals, cmd *cobra.Command) {
	propose := func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		c, err := g.stage0()
		if err != nil || len(args) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		p, err := stage0.Find(c, args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer func() { _ = p.Close() }()
		m, err := p.Manifest()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return appNames(m), cobra.ShellCompDirectiveNoFileComp
	}
	// It fails only if there is no such flag.
	_ = cmd.RegisterFlagCompletionFunc("app", propose)
}

// helpOr prints the help of a verb if that is what an error asks for.
func helpOr(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return cmd.Help()
	}
	return err
}
