package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rkt/rkt/image/trust"
)

type trustOptions struct {
	scope      trustScope
	skipReview bool
}

// trustScope is what a rule is for, by the flags of the verbs that change it.
type trustScope struct {
	prefix, repository string
	root               bool
}

func newTrustCmd(g *globals) *cobra.Command {
	o := &trustOptions{}
	cmd := &cobra.Command{
		Use:   "trust (--prefix=PREFIX | --repository=REPOSITORY | --root) KEYFILE...",
		Short: "Trust keys to vouch for images",
		Long: `Add public keys to the trust policy, after their fingerprints were reviewed.

A key file is a cosign public key (PEM) or an OpenPGP public key (armored or
binary). A rule is made for what the flag names, or extended: any one of its
keys is enough. The narrower rule goes before the wider one.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(g, cmd, args)
		},
	}
	o.scope.add(cmd)
	cmd.Flags().BoolVar(&o.skipReview, "skip-fingerprint-review", false, "trust the keys without asking")
	cmd.AddCommand(newTrustListCmd(g), newTrustRmCmd(g))
	return cmd
}

func (s *trustScope) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.prefix, "prefix", "", "a repository or host, and everything below it")
	f.StringVar(&s.repository, "repository", "", "exactly this repository")
	f.BoolVar(&s.root, "root", false, "every image")
}

// pattern is the pattern of the rule; words say what it is for.
func (s *trustScope) pattern() (pattern, words string, err error) {
	given := 0
	for _, set := range []bool{s.prefix != "", s.repository != "", s.root} {
		if set {
			given++
		}
	}
	switch {
	case given > 1:
		return "", "", errors.New("only one of --prefix, --repository and --root can be given")
	case strings.Contains(s.prefix+s.repository, "://"):
		return "", "", errors.New("a repository is given without a scheme, as in --prefix=reg.example/team")
	case s.prefix != "":
		pattern = trust.Below(s.prefix)
		words = fmt.Sprintf("%q and everything below it", strings.TrimSuffix(s.prefix, "/"))
	case s.repository != "":
		pattern, words = s.repository, fmt.Sprintf("exactly %q", s.repository)
	case s.root:
		pattern, words = trust.Everything, "every image"
	default:
		return "", "", errors.New("a key is not trusted for everything unasked: give --prefix=PREFIX or --repository=REPOSITORY, or --root for every image")
	}
	return pattern, words, trust.CheckPattern(pattern)
}

type keyFile struct {
	path string
	key  trust.Key
	data []byte
}

func (o *trustOptions) run(g *globals, cmd *cobra.Command, paths []string) error {
	pattern, words, err := o.scope.pattern()
	if err != nil {
		return err
	}
	var files []keyFile
	for _, path := range paths {
		key, data, err := trust.ReadKeyFile(path)
		if err != nil {
			return err
		}
		if err := key.Usable(time.Now()); err != nil {
			return fmt.Errorf("trust key file %q: %w", path, err)
		}
		files = append(files, keyFile{path, key, data})
	}
	terminal := term.IsTerminal(int(os.Stdin.Fd()))
	answers := bufio.NewReader(cmd.InOrStdin())
	for _, f := range files {
		if err := f.review(cmd.OutOrStdout(), words); err != nil {
			return err
		}
		if !o.skipReview && terminal {
			if err := confirm(cmd.OutOrStdout(), answers); err != nil {
				return fmt.Errorf("trust key file %q: %w", f.path, err)
			}
		}
	}
	if !o.skipReview && !terminal {
		return errors.New("no key is trusted, because standard input is no terminal to confirm it on; compare the fingerprints and give --skip-fingerprint-review")
	}
	return o.keep(g, cmd, pattern, words, files)
}

// review prints what a person compares with what the key's owner says. User
// IDs are quoted: whoever made the key chose them.
func (f keyFile) review(w io.Writer, words string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "key file: %q\nto vouch for: %s\n", f.path, words)
	fmt.Fprintf(&b, "%s key fingerprint is: %s\n", f.key.Type, spaced(f.key))
	fmt.Fprintf(&b, "\tAlgorithm: %s\n", f.key.Algorithm)
	for _, sub := range f.key.Subkeys {
		fmt.Fprintf(&b, "\tSigning subkey fingerprint: %s\n", sub)
	}
	for _, id := range f.key.Identities {
		fmt.Fprintf(&b, "\t%q\n", id)
	}
	if !f.key.Expires.IsZero() {
		fmt.Fprintf(&b, "\tExpires: %s\n", f.key.Expires.UTC().Format(time.DateOnly))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// spaced groups an OpenPGP fingerprint as gpg prints it.
func spaced(key trust.Key) string {
	if key.Type != trust.OpenPGP || len(key.Fingerprint) != 40 {
		return key.Fingerprint
	}
	var groups []string
	for i := 0; i < 40; i += 4 {
		groups = append(groups, key.Fingerprint[i:i+4])
	}
	return strings.Join(groups[:5], " ") + "  " + strings.Join(groups[5:], " ")
}

// confirm takes exactly yes or no, and asks again for anything else.
func confirm(w io.Writer, answers *bufio.Reader) error {
	for {
		if _, err := io.WriteString(w, "Are you sure you want to trust this key (yes/no)? "); err != nil {
			return err
		}
		line, err := answers.ReadString('\n')
		switch strings.TrimSpace(line) {
		case "yes":
			return nil
		case "no":
			return errors.New("it was not confirmed, no key is trusted")
		}
		if err != nil {
			return fmt.Errorf("nobody answered yes or no: %w", err)
		}
		if _, err := io.WriteString(w, "Please answer yes or no.\n"); err != nil {
			return err
		}
	}
}

func (o *trustOptions) keep(g *globals, cmd *cobra.Command, pattern, words string, files []keyFile) (err error) {
	editor, err := trust.Edit(g.localConfig)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, editor.Close()) }()
	var change trust.Change
	for _, f := range files {
		if change, err = editor.Add(pattern, f.key, f.data); err != nil {
			return err
		}
		verb := "Added"
		if change.Unneeded {
			verb = "Replaced"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s key for %s at %q\n", verb, words, change.KeyFile)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Rule %s: match %q, keys: any of %d\n", change.Rule, pattern, change.Keys)
	o.warn(g, cmd, pattern, change, files)
	return nil
}

// warn tells what may surprise about the rule that was just made.
func (o *trustOptions) warn(g *globals, cmd *cobra.Command, pattern string, change trust.Change, files []keyFile) {
	policy, err := trust.LoadPolicy(g.systemConfig, g.localConfig)
	if err != nil {
		cmd.PrintErrf("%s: warning: nothing is trusted before this is mended: %v\n", cmd.CommandPath(), err)
		return
	}
	sample := strings.ReplaceAll(pattern, trust.Everything, "x.x/x")
	if o.scope.prefix != "" {
		sample = strings.TrimSuffix(o.scope.prefix, "/") + "/x"
	}
	if first := policy.Deciding(sample); first != change.Rule {
		cmd.PrintErrf("%s: warning: rule %s comes before this one and decides about %s; the first match decides\n", cmd.CommandPath(), first, sample)
	}
	for _, f := range files {
		if f.key.Type == trust.Cosign && o.scope.repository == "" {
			cmd.PrintErrf("%s: note: a signature of cosign 3 names its repository only when made with 'cosign sign -a docker-reference=REPOSITORY'; one that does not is refused under a rule for more than one repository, use --repository for it\n", cmd.CommandPath())
			return
		}
	}
}

type trustRmOptions struct{ scope trustScope }

func newTrustRmCmd(g *globals) *cobra.Command {
	o := &trustRmOptions{}
	cmd := &cobra.Command{
		Use:   "rm (FINGERPRINT... | --prefix=PREFIX | --repository=REPOSITORY | --root)",
		Short: "Take keys, or a rule with its keys, out of the trust policy",
		Long: `Take keys out of every rule of the administrator, or remove the rule that
'rkt trust' made for what the flag names. Images in the store are judged by the
changed policy at their next start.

A rule that loses its last key stays and refuses everything that it matches.
When a rule is removed, the next one that matches decides.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(g, cmd, args)
		},
	}
	o.scope.add(cmd)
	return cmd
}

func (o *trustRmOptions) run(g *globals, cmd *cobra.Command, fingerprints []string) (err error) {
	var pattern, words string
	if o.scope != (trustScope{}) {
		if len(fingerprints) > 0 {
			return errors.New("give either fingerprints or a rule, not both")
		}
		if pattern, words, err = o.scope.pattern(); err != nil {
			return err
		}
	} else if len(fingerprints) == 0 {
		return errors.New("give the fingerprint of a key, or --prefix, --repository or --root; 'rkt trust list' shows them")
	}
	if _, err := os.Stat(filepath.Join(g.localConfig, "trust.d")); err != nil {
		return fmt.Errorf("no rule was made yet: %w", err)
	}
	editor, err := trust.Edit(g.localConfig)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, editor.Close()) }()
	if pattern != "" {
		change, err := editor.RemoveRule(pattern)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Removed the rule for %s: %q\n", words, change.File)
		return nil
	}
	for _, fingerprint := range fingerprints {
		changes, err := editor.RemoveKey(fingerprint)
		if err != nil {
			return err
		}
		for _, change := range changes {
			left := fmt.Sprintf("%d left", change.Keys)
			if change.Keys == 0 {
				left = "none left, so it refuses everything"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Removed key %s from rule %s for %s: %s\n", fingerprint, change.Rule, strings.Join(change.Match, ", "), left)
		}
	}
	return nil
}
