package hostile

import (
	"archive/tar"
	"fmt"
	"strings"
)

// Case is one hostile layer.
type Case struct {
	Name    string
	Layer   []byte   // an uncompressed tar archive
	Refused string   // a part of the error that must come; "" when the layer unpacks harmlessly
	Inside  []string // "name type" of nodes that are there then: file, dir, link, fifo, hidden (a whiteout), none
}

// Cases are layers that aim at canary, the absolute path of a directory with
// the files etc/passwd and bin/sh. They are meant to be unpacked into a
// directory that lies three levels below the parent of canary.
func Cases(canary string) []Case {
	up := "../../../" + canary[strings.LastIndexByte(canary, '/')+1:]
	var all []Case
	for _, group := range [][]Case{
		paths(canary, up), symlinks(canary, up), hardLinks(canary, up), whiteouts(canary, up),
		nodes(), replacements(canary), sizes(), metadata(), names(), broken(),
	} {
		all = append(all, group...)
	}
	return all
}

func archive() *Archive { return &Archive{} }

func paths(canary, up string) []Case {
	inside := strings.TrimPrefix(canary, "/") + "/etc/passwd file"
	return []Case{
		{"dot dot", archive().File(up+"/etc/passwd", "x").Bytes(), `".."`, nil},
		{"dot dot within", archive().File("a/../../../../x", "x").Bytes(), `".."`, nil},
		{"dot dot alone", archive().Dir("..").Bytes(), `".."`, nil},
		{"dot dot at the end", archive().Dir("a/..").Bytes(), `".."`, nil},
		{"absolute", archive().File(canary+"/etc/passwd", "x").Bytes(), "", []string{inside}},
		{"many slashes", archive().File("///"+canary+"//./etc///passwd", "x").Bytes(), "", []string{inside}},
		{"dot dot by pax", archive().Records("path", up+"/etc/passwd").Raw("fine", tar.TypeReg, "", 0, "").Bytes(), `".."`, nil},
		{"root is a symlink", archive().Symlink("./", canary).File("etc/passwd", "x").Bytes(), "must be a directory", nil},
		{"dot is a symlink", archive().Symlink(".", canary).Bytes(), "must be a directory", nil},
		{"slash is a symlink", archive().Symlink("/", canary).Bytes(), "must be a directory", nil},
		{"root is a hard link", archive().Link("/", canary).Bytes(), "must be a directory", nil},
		{"root is a file", archive().Raw("./", tar.TypeReg, "", 0, "").Bytes(), "must be a directory", nil},
		{"root is a device", archive().Raw(".", tar.TypeBlock, "", 0, "").Bytes(), "must be a directory", nil},
		{"no name", archive().Raw("", tar.TypeReg, "", 0, "").Bytes(), "must be a directory", nil},
	}
}

func symlinks(canary, up string) []Case {
	return []Case{
		{"through absolute symlink", archive().Symlink("l", canary).File("l/etc/passwd", "x").Bytes(), "leads to no directory", nil},
		{"through relative symlink", archive().Symlink("l", up).File("l/etc/passwd", "x").Bytes(), "leads to no directory", nil},
		{"through symlink to root", archive().Symlink("l", "/").File("l/passwd", "x").Bytes(), "", []string{"passwd file", "l link"}},
		{"through symlink upwards", archive().Symlink("l", "../../../..").File("l/passwd", "x").Bytes(), "", []string{"passwd file"}},
		{"through a chain", archive().Dir("a").Symlink("a/b", "..").Symlink("c", "a/b/../..").File("c/"+strings.TrimPrefix(canary, "/")+"/etc/passwd", "x").Bytes(),
			"", []string{strings.TrimPrefix(canary, "/") + "/etc/passwd file"}},
		{"through symlink to proc", archive().Symlink("p", "/proc/self/root").File("p/etc/x", "x").Bytes(), "leads to no directory", nil},
		{"through symlink to cwd", archive().Symlink("p", "/proc/self/cwd").Dir("p/x").Bytes(), "leads to no directory", nil},
		{"file on symlink", archive().Symlink("l", canary+"/etc/passwd").File("l", "x").Bytes(), "", []string{"l file"}},
		{"file on relative symlink", archive().Symlink("l", up+"/etc/passwd").File("l", "x").Bytes(), "", []string{"l file"}},
		{"directory on symlink", archive().Symlink("l", canary+"/etc").Add(tar.Header{Typeflag: tar.TypeDir, Name: "l/", Mode: 0o777}, "").
			File("l/passwd", "x").Bytes(), "", []string{"l dir", "l/passwd file"}},
		{"FIFO on symlink", archive().Symlink("l", canary+"/bin/sh").FIFO("l").Bytes(), "", []string{"l fifo"}},
		{"device on symlink", archive().Symlink("l", canary+"/bin/sh").Raw("l", tar.TypeChar, "", 0, "").Bytes(), "", []string{"l hidden"}},
		{"symlink on directory", archive().Dir("d").File("d/x", "x").Symlink("d", canary).File("d/etc/passwd", "x").Bytes(), "leads to no directory", nil},
		{"loop of two", archive().Symlink("a", "b").Symlink("b", "a").File("a/x", "x").Bytes(), "loop of symbolic links", nil},
		{"loop of one", archive().Symlink("a", "a").File("a/x", "x").Bytes(), "loop of symbolic links", nil},
		{"loop that grows", archive().Symlink("a", "a/a").File("a/x", "x").Bytes(), "loop of symbolic links", nil},
		{"symlink to a file as parent", archive().File("f", "x").Symlink("l", "f").File("l/x", "x").Bytes(), "leads to no directory", nil},
		{"no target", archive().Raw("l", tar.TypeSymlink, "", 0, "").Bytes(), "no target", nil},
		{"long target", archive().Symlink("l", strings.Repeat("x/", 2100)).Bytes(), "pathLength", nil},
	}
}

func hardLinks(canary, up string) []Case {
	return []Case{
		{"hard link outside", archive().Link("h", canary+"/etc/passwd").Bytes(), "does not contain", nil},
		{"hard link upwards", archive().Link("h", up+"/etc/passwd").Bytes(), `".."`, nil},
		{"hard link through symlink", archive().Symlink("l", canary).Link("h", "l/etc/passwd").Bytes(), "does not contain", nil},
		{"hard link through relative symlink", archive().Symlink("l", up).Link("h", "l/etc/passwd").Bytes(), "does not contain", nil},
		{"hard link to symlink, then file", archive().Symlink("l", canary+"/etc/passwd").Link("h", "l").File("h", "x").Bytes(),
			"", []string{"l link", "h file"}},
		{"hard link to symlink, with a mode", archive().Symlink("l", canary+"/bin/sh").
			Add(tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "l", Mode: 0o6777}, "").Bytes(), "", []string{"h link"}},
		{"hard link to directory", archive().Dir("d").Link("h", "d").Bytes(), "is no file", nil},
		{"hard link to root", archive().Link("h", "/").Bytes(), "root of the layer", nil},
		{"hard link to nothing", archive().Raw("h", tar.TypeLink, "", 0, "").Bytes(), "root of the layer", nil},
		{"hard link to itself", archive().File("f", "x").Link("f", "f").Bytes(), "", []string{"f file"}},
		{"hard link to its own parent's file", archive().File("a/f", "x").Link("a", "a/f").Bytes(), "does not contain", nil},
		{"hard link to what was hidden", archive().File(".wh.f", "").Link("h", ".wh.f").Bytes(), "does not contain", nil},
		{"hard link through a file", archive().File("f", "x").Link("h", "f/x").Bytes(), "does not contain", nil},
	}
}

func whiteouts(canary, up string) []Case {
	return []Case{
		{"whiteout upwards", archive().File("../.wh.etc", "").Bytes(), `".."`, nil},
		{"whiteout of the directory", archive().File("a/.wh..", "").Bytes(), "hides nothing", nil},
		{"whiteout of the parent", archive().File("a/.wh...", "").Bytes(), "hides nothing", nil},
		{"whiteout of nothing", archive().File("a/.wh.", "").Bytes(), "hides nothing", nil},
		{"whiteout through symlink", archive().Symlink("l", canary).File("l/.wh.etc", "").Bytes(), "", []string{"l link"}},
		{"whiteout through relative symlink", archive().Symlink("l", up).File("l/etc/.wh.passwd", "").Bytes(), "", []string{"l link"}},
		{"opaque through symlink", archive().Symlink("l", canary).File("l/.wh..wh..opq", "").Bytes(), "", []string{"l link"}},
		{"opaque through symlink to root", archive().Dir("d").Symlink("l", "d").File("l/.wh..wh..opq", "").Bytes(), "", []string{"d dir"}},
		{"below a whiteout", archive().File(".wh.a/b", "x").Bytes(), "is a whiteout", nil},
		{"AUFS's own files", archive().Link(".wh..wh.plnk/x", canary+"/bin/sh").File(".wh..wh.aufs", "x").Bytes(), "",
			[]string{".wh..wh.plnk none", ".wh..wh.aufs none"}},
		{"whiteout as a symlink", archive().Symlink(".wh.x", canary).File("x/etc/passwd", "x").Bytes(), "", []string{"x dir", "x/etc/passwd file"}},
		{"whiteout of own file", archive().File("f", "x").File(".wh.f", "").Bytes(), "", []string{"f file"}},
		{"file of own whiteout", archive().File(".wh.f", "").File("f", "x").Bytes(), "", []string{"f file"}},
		{"whiteout below own file", archive().File("f", "x").File("f/.wh.g", "").File("f/.wh..wh..opq", "").Bytes(), "", []string{"f file"}},
		{"whiteout below own symlink", archive().File("d/f", "").Symlink("l", "d").File("l/.wh.f", "").File("l/.wh.g", "").Bytes(), "",
			[]string{"l link", "d/f file", "d/g none"}},
		{"whiteout below own whiteout", archive().File(".wh.f", "x").File("f/.wh.g", "").Bytes(), "", []string{"f hidden"}},
		{"whiteouts of an opaque directory", archive().File("d/.wh.f", "x").File("d/.wh..wh..opq", "").File("d/.wh.g", "").Bytes(), "",
			[]string{"d/f none", "d/g none"}},
		{"whiteout twice", archive().File(".wh.f", "").File(".wh.f", "").Bytes(), "", []string{"f hidden"}},
	}
}

func nodes() []Case {
	device := func(flag byte, major, minor int64) []byte {
		return archive().Add(tar.Header{Typeflag: flag, Name: "dev/x", Mode: 0o666, Devmajor: major, Devminor: minor}, "").Bytes()
	}
	return []Case{
		{"character device", device(tar.TypeChar, 1, 1), "", []string{"dev/x hidden"}},
		{"block device", device(tar.TypeBlock, 8, 0), "", []string{"dev/x hidden"}},
		{"device 0/0", device(tar.TypeChar, 0, 0), "", []string{"dev/x hidden"}},
		{"write to a device", archive().Raw("x", tar.TypeBlock, "", 0, "").File("x", "x").Bytes(), "", []string{"x file"}},
		{"FIFO", archive().FIFO("x").Bytes(), "", []string{"x fifo"}},
		{"write to a FIFO", archive().FIFO("x").File("x", "x").Bytes(), "", []string{"x file"}},
		{"directory on a FIFO", archive().FIFO("x").Dir("x").Bytes(), "", []string{"x dir"}},
		{"FIFO as parent", archive().FIFO("x").File("x/y", "x").Bytes(), "", []string{"x dir", "x/y file"}},
		{"FIFO as hard link", archive().FIFO("x").Link("y", "x").File("y", "x").Bytes(), "", []string{"x fifo", "y file"}},
		{"whiteout below a FIFO", archive().FIFO("x").File("x/.wh.y", "x").Bytes(), "", []string{"x fifo"}},
		{"unknown type", archive().Raw("x", 'V', "", 0, "").Bytes(), "is unknown", nil},
	}
}

func replacements(canary string) []Case {
	return []Case{
		{"file twice", archive().File("f", "one").File("f", "two").Bytes(), "", []string{"f file"}},
		{"directory twice", archive().Dir("d").File("d/f", "x").Dir("d").Bytes(), "", []string{"d/f file"}},
		{"directory, then file", archive().Dir("d").File("d/e/f", "x").File("d", "x").Bytes(), "", []string{"d file"}},
		{"file, then directory", archive().File("d", "x").Dir("d").File("d/f", "x").Bytes(), "", []string{"d/f file"}},
		{"file as parent", archive().File("a", "x").File("a/b/c", "x").Bytes(), "", []string{"a dir", "a/b/c file"}},
		{"directory, then FIFO, then back", archive().File("d/e/f", "x").FIFO("d").File("d/e/f", "x").Bytes(), "", []string{"d/e/f file"}},
		{"directory, symlink, directory", archive().File("d/f", "x").Symlink("d", canary).Dir("d").File("d/etc/passwd", "x").Bytes(), "",
			[]string{"d dir", "d/etc/passwd file", "d/f none"}},
		{"symlink changes its mind", archive().Dir("a").Symlink("l", "a").File("l/one", "x").Symlink("l", canary).File("l/two", "x").Bytes(),
			"leads to no directory", nil},
		{"link in the middle changes", archive().Dir("a/b").Symlink("l", "a").File("l/b/one", "x").File("a", "x").File("l/b/two", "x").Bytes(),
			"leads to no directory", nil},
	}
}

func sizes() []Case {
	deep := archive()
	for i := range 10 { // each link leads 100 directories further down
		name := fmt.Sprintf("l%d", i)
		below := strings.Repeat("d/", 100)
		if i == 0 {
			deep.Dir(below).Symlink(name, below)
			continue
		}
		before := fmt.Sprintf("l%d/", i-1)
		deep.Dir(before+below).Symlink(name, before+below)
	}
	return []Case{
		{"sparse of 8 EiB", archive().Sparse("s", 1<<63-1, 0, "x").Bytes(), "limit", nil},
		{"sparse of 1 PiB at its end", archive().Sparse("s", 1<<50, 1<<50-1, "x").Bytes(), "limit", nil},
		{"sparse by pax", archive().Records("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "s",
			"GNU.sparse.realsize", fmt.Sprint(int64(1)<<60)).Raw("s", tar.TypeReg, "", 512, "0\n"+strings.Repeat("\x00", 510)).Bytes(), "limit", nil},
		{"sparse with a huge map", archive().Records("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "s",
			"GNU.sparse.realsize", "10").Raw("s", tar.TypeReg, "", 2<<20, strings.Repeat("1000000\n", 2<<20/8)).Bytes(), "damaged", nil},
		{"sparse that overlaps", archive().Records("GNU.sparse.size", "100", "GNU.sparse.numblocks", "2", "GNU.sparse.map", "0,50,10,50").
			Raw("s", tar.TypeReg, "", 100, strings.Repeat("x", 100)).Bytes(), "damaged", nil},
		{"size beyond the end", archive().Raw("f", tar.TypeReg, "", 1<<30, "short").Bytes(), "damaged", nil},
		{"size of 8 EiB", archive().Raw("f", tar.TypeReg, "", 1<<63-1, "short").Bytes(), "limit", nil},
		{"negative size", archive().Raw("f", tar.TypeReg, "", -1, "").Bytes(), "damaged", nil},
		{"deep", archive().Dir(strings.Repeat("d/", 600)).Bytes(), "depth", nil},
		{"deeper by symlinks", deep.Bytes(), "depth", nil},
		{"long path", archive().Dir(strings.Repeat(strings.Repeat("x", 99)+"/", 50)).Bytes(), "pathLength", nil},
		{"long part", archive().File("a/"+strings.Repeat("x", 256), "").Bytes(), "longer than 255", nil},
		{"long part, short by a link", archive().Dir("a").Symlink("b", "a").File("b/"+strings.Repeat("x", 255), "").Bytes(), "", nil},
	}
}

func metadata() []Case {
	with := func(h tar.Header) []byte {
		h.Name, h.Typeflag, h.Mode = "f", tar.TypeReg, 0o644
		return archive().Add(h, "x").Bytes()
	}
	raw := func(key, value string) []byte {
		return archive().Records(key, value).Raw("f", tar.TypeReg, "", 0, "").Bytes()
	}
	xattr := func(name, value string) []byte { return raw("SCHILY.xattr."+name, value) }
	return []Case{
		{"user -1", raw("uid", "-1"), "out of range", nil},
		{"user 2^32-1", with(tar.Header{Uid: 1<<32 - 1, Gid: 1}), "out of range", nil},
		{"user 2^32", with(tar.Header{Uid: 1 << 32, Gid: 1}), "out of range", nil},
		{"group 2^32-1", with(tar.Header{Uid: 1, Gid: 1<<32 - 1}), "out of range", nil},
		{"group 2^63-1", with(tar.Header{Uid: 1, Gid: 1<<63 - 1}), "out of range", nil},
		{"overlay's own xattr", xattr("user.overlay.opaque", "y"), "", []string{"f file"}},
		{"overlay's redirect", xattr("trusted.overlay.redirect", "/etc"), "", []string{"f file"}},
		{"SELinux label", xattr("security.selinux", "system_u:object_r:shadow_t:s0"), "", []string{"f file"}},
		{"xattr without a name", raw("SCHILY.xattr.", "x"), "", []string{"f file"}},
		{"huge xattr", xattr("user.x", strings.Repeat("x", 300<<10)), "xattrs", nil},
		{"many xattrs", archive().Records(manyXattrs()...).Raw("f", tar.TypeReg, "", 0, "").Bytes(), "xattrs", nil},
		{"ACL that is none", xattr("system.posix_acl_access", "nonsense"), "extended attribute", nil},
		{"time of the far future", raw("mtime", "9223372036854775807.999999999"), "", []string{"f file"}},
		{"time before all", raw("mtime", "-9223372036854775807.999999999"), "", []string{"f file"}},
		{"time without sense", raw("mtime", "soon"), "damaged", nil},
	}
}

func manyXattrs() (records []string) {
	for i := range 300 {
		records = append(records, fmt.Sprintf("SCHILY.xattr.user.%d", i), strings.Repeat("x", 1000))
	}
	return records
}

func names() []Case {
	return []Case{
		{"newline", archive().File("a\nb", "x").Bytes(), "", []string{"a\nb file"}},
		{"terminal escape", archive().File("\x1b[2J../x", "x").Bytes(), "", []string{"\x1b[2J../x file"}},
		{"not UTF-8", archive().Raw("a\xff\xfe", tar.TypeReg, "", 0, "").Bytes(), "", []string{"a\xff\xfe file"}},
		{"NUL in ustar", archive().Raw("a\x00/../../../x", tar.TypeReg, "", 0, "").Bytes(), "", []string{"a file"}},
		{"NUL in pax", archive().Records("path", "a\x00b").Raw("f", tar.TypeReg, "", 0, "").Bytes(), "damaged", nil},
		{"NUL in a target by pax", archive().Records("linkpath", "a\x00b").Raw("f", tar.TypeSymlink, "x", 0, "").Bytes(), "damaged", nil},
		{"backslashes", archive().File(`..\..\x`, "x").Bytes(), "", []string{`..\..\x file`}},
		{"three dots", archive().File(".../x", "x").Bytes(), "", []string{".../x file"}},
		{"space", archive().File(" /x", "x").Bytes(), "", []string{" /x file"}},
		{"error with a hostile name", archive().File("\n\x1b[2J"+strings.Repeat("xxxxxxxxx/", 300)+"../x", "x").Bytes(), `".."`, nil},
	}
}

func broken() []Case {
	whole := archive().File("a", "content").File("b", strings.Repeat("x", 2000)).Bytes()
	flipped := strings.Replace(string(whole), "ustar", "ustaR", 1)
	return []Case{
		{"cut off in a header", whole[:100], "damaged", nil},
		{"cut off in a file", whole[:512*3+600], "damaged", nil},
		{"wrong checksum", []byte(flipped), "damaged", nil},
		{"no archive", []byte(strings.Repeat("no archive at all\n", 100)), "damaged", nil},
		{"only a pax header", archive().Records("path", "x").Open(), "", []string{"x none"}},
		{"wrong pax record", archive().Raw("x", tar.TypeXHeader, "", 10, "99 path=xx").File("f", "x").Bytes(), "damaged", nil},
		{"long name without end", archive().Raw("x", tar.TypeGNULongName, "", 2<<20, strings.Repeat("x", 2<<20)).File("f", "x").Bytes(), "damaged", nil},
		{"nothing", nil, "", nil},
		{"global header", archive().Raw("x", tar.TypeXGlobalHeader, "", 0, "").File("f", "x").Bytes(), "", []string{"f file"}},
	}
}
