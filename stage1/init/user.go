package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rkt/rkt/internal/linux"
)

// identity is what a user resolves to.
type identity struct {
	uid, gid uint32
	groups   []uint32 // supplementary
	name     string   // "" if /etc/passwd has none for the number
	home     string   // "/" if the user has none
}

// maxUserFile bounds /etc/passwd and /etc/group of an image (CVE-2025-4437,
// CVE-2026-47262).
const maxUserFile = 4 << 20

// resolve reads "user[:group]", each a name or a number, with the root's own
// /etc/passwd and /etc/group. A number needs no entry there. Without a group,
// the user's groups are those that the files give; with one, only that.
func resolve(root *linux.Root, spec string, extra []uint32) (identity, error) {
	user, group, hasGroup := strings.Cut(spec, ":")
	if user == "" {
		user = "0"
	}
	if err := checkName(user); err != nil {
		return identity{}, fmt.Errorf("find user %q: %w", spec, err)
	}
	passwd, err := readTable(root, "/etc/passwd", 7)
	if err != nil {
		return identity{}, fmt.Errorf("find user %q: %w", user, err)
	}
	groups, err := readTable(root, "/etc/group", 4)
	if err != nil {
		return identity{}, fmt.Errorf("find groups of user %q: %w", user, err)
	}
	id, err := findUser(passwd, user)
	if err != nil {
		return identity{}, err
	}
	if hasGroup {
		if id.gid, err = findGroup(groups, group); err != nil {
			return identity{}, err
		}
	} else {
		id.groups = memberships(groups, id.name)
	}
	// With the primary group: a program that changes its group must not lose
	// what denies that group access (CVE-2022-2989).
	id.groups = append(append(id.groups, extra...), id.gid)
	slices.Sort(id.groups)
	id.groups = slices.Compact(id.groups)
	return id, nil
}

// checkName refuses what could be read differently elsewhere (CVE-2024-40635,
// CVE-2026-46680, CVE-2022-4318): control characters and separators.
func checkName(name string) error {
	for _, r := range name {
		if r < ' ' || r == 0x7f || r == ':' || r == '/' {
			return errors.New("the name has a character that names of users and groups cannot have")
		}
	}
	return nil
}

// findUser returns the user with its primary group.
func findUser(passwd [][]string, user string) (identity, error) {
	num, isNum, err := number(user)
	if err != nil {
		return identity{}, fmt.Errorf("find user %q: %w", user, err)
	}
	for _, f := range passwd {
		uid, ok, err := number(f[2])
		if err != nil || !ok || (isNum && uid != num) || (!isNum && f[0] != user) {
			continue
		}
		gid, ok, err := number(f[3])
		if err != nil || !ok {
			continue
		}
		id := identity{uid: uid, gid: gid, name: f[0], home: f[5]}
		if !strings.HasPrefix(id.home, "/") || strings.ContainsAny(id.home, "\n\x00") {
			id.home = "/"
		}
		return id, nil
	}
	switch {
	case isNum:
		return identity{uid: num, home: "/"}, nil
	case user == "root":
		return identity{name: "root", home: "/root"}, nil
	}
	return identity{}, fmt.Errorf("find user %q: the image's /etc/passwd does not have it; use a number, or a name that is there", user)
}

func findGroup(groups [][]string, group string) (uint32, error) {
	if err := checkName(group); err != nil {
		return 0, fmt.Errorf("find group %q: %w", group, err)
	}
	num, isNum, err := number(group)
	if err != nil {
		return 0, fmt.Errorf("find group %q: %w", group, err)
	}
	if isNum {
		return num, nil
	}
	for _, f := range groups {
		if gid, ok, err := number(f[2]); f[0] == group && err == nil && ok {
			return gid, nil
		}
	}
	if group == "root" {
		return 0, nil
	}
	return 0, fmt.Errorf("find group %q: the image's /etc/group does not have it; use a number, or a name that is there", group)
}

func memberships(groups [][]string, user string) []uint32 {
	var list []uint32
	if user == "" {
		return nil
	}
	for _, f := range groups {
		if !slices.Contains(strings.Split(f[3], ","), user) {
			continue
		}
		if gid, ok, err := number(f[2]); err == nil && ok {
			list = append(list, gid)
		}
	}
	return list
}

// number reads an id. All digits that do not fit an id (2^32-1 means "none" to
// the kernel) are an error, never a name.
func number(s string) (uint32, bool, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		if strings.HasPrefix(s, "-") || strings.HasPrefix(s, "+") {
			return 0, false, errors.New("ids have no sign")
		}
		return 0, false, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, false, errors.New("ids go from 0 to 4294967294")
	}
	return uint32(n), true, nil
}

// readTable reads lines of at least the given number of fields. A file that is
// not there has no lines; others are skipped as getpwnam(3) does.
func readTable(root *linux.Root, name string, fields int) ([][]string, error) {
	data, err := root.ReadFile(name, maxUserFile)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var table [][]string
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) >= fields && f[0] != "" {
			table = append(table, f)
		}
	}
	return table, nil
}
