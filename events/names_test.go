package events

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// hostileNames can be no name anywhere.
func hostileNames() []string {
	return []string{
		"", ".", "..", "a/b", "/", "a@b", "*", "a*", ">", "a>b", `a\b`, "a\x00b", "a\nb", "a\tb", "\x7f", "\u0085",
		" a", "a ", "\u00a0a", "a\u2003", "-", "-a", "--help", "a\u202eb", "a\u200bb", "a\ufeffb", "\U000e0001a", "\xff", "a\xc3", "\xed\xa0\x80", strings.Repeat("a", 256), strings.Repeat("é", 128),
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{
		"a", "disk0", "a b", "a.b", "...", "a-", "=", "é", "数据", "😀", "a'b\"c", "$(x)", "%s", strings.Repeat("a", 255), "a:b", "a|b",
	} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range hostileNames() {
		err := CheckName(name)
		if !errors.Is(err, ErrName) {
			t.Errorf("%q: got %v", name, err)
		} else if strings.ContainsAny(err.Error(), "\n\x00") || !utf8.ValidString(err.Error()) {
			t.Errorf("%q: the error is no line of text: %q", name, err)
		}
	}
}

func TestCleanPath(t *testing.T) {
	cases := []struct {
		in, want string // want is empty for what is refused
	}{
		{"", "/"},
		{"/", "/"},
		{"///", "/"},
		{".", "/"},
		{"/./", "/"},
		{"a", "/a"},
		{"/a", "/a"},
		{"a/", "/a"},
		{"a//b", "/a/b"},
		{"/a/./b/", "/a/b"},
		{"prod/db 1", "/prod/db 1"},
		{"..", ""},
		{"/a/../b", ""},
		{"a/..", ""},
		{"a/*/b", ""},
		{"a/>", ""},
		{"a\x00", ""},
		{"a/ b", ""},
		{`a\b`, ""},
		{"a@b", ""},
		{strings.Repeat("a", 255), "/" + strings.Repeat("a", 255)},
		{strings.Repeat("a", 256), ""},
		{strings.Repeat("/a", 512), strings.Repeat("/a", 512)},
		{strings.Repeat("/a", 512) + "/", ""},
	}
	for _, c := range cases {
		got, err := CleanPath(c.in)
		if got != c.want || errors.Is(err, ErrName) != (c.want == "") {
			t.Errorf("%.40q: got %.40q, %v", c.in, got, err)
		}
	}
}

func TestParseDirectory(t *testing.T) {
	cases := []struct {
		in   string
		want DirectoryName // zero for what is refused
	}{
		{"vms", DirectoryName{"vms", "/"}},
		{"vms/", DirectoryName{"vms", "/"}},
		{"vms/prod/db", DirectoryName{"vms", "/prod/db"}},
		{"vms//prod//", DirectoryName{"vms", "/prod"}},
		{"", DirectoryName{}},
		{"/", DirectoryName{}},
		{"/vms", DirectoryName{}},
		{"../x", DirectoryName{}},
		{"vms/..", DirectoryName{}},
		{"vms/a@s", DirectoryName{}},
		{"*", DirectoryName{}},
		{"vms/>", DirectoryName{}},
	}
	for _, c := range cases {
		got, err := ParseDirectory(c.in)
		if got != c.want || errors.Is(err, ErrName) != (c.want == DirectoryName{}) {
			t.Errorf("%q: got %v, %v", c.in, got, err)
		}
		if err == nil {
			if again, err := ParseDirectory(got.String()); err != nil || again != got {
				t.Errorf("%q: its own text %q reads as %v, %v", c.in, got, again, err)
			}
		}
	}
}

func TestParseImage(t *testing.T) {
	root := DirectoryName{"vms", "/"}
	db := DirectoryName{"vms", "/prod/db"}
	cases := []struct {
		in   string
		want ImageName // zero for what is refused
	}{
		{"vms/disk0", ImageName{root, "disk0", ""}},
		{"vms//disk0", ImageName{root, "disk0", ""}},
		{"vms/prod/db/disk0", ImageName{db, "disk0", ""}},
		{"vms/prod/db/disk0@nightly", ImageName{db, "disk0", "nightly"}},
		{"vms/disk 0@a.b", ImageName{root, "disk 0", "a.b"}},
		{"vms", ImageName{}},
		{"", ImageName{}},
		{"vms/", ImageName{}},
		{"/disk", ImageName{}},
		{"vms/disk/", ImageName{}},
		{"vms/disk@", ImageName{}},
		{"vms/@s", ImageName{}},
		{"vms/disk@a@b", ImageName{}},
		{"vms@s/disk", ImageName{}},
		{"vms/disk@a/b", ImageName{}},
		{"vms/../disk", ImageName{}},
		{"vms/..", ImageName{}},
		{"vms/.", ImageName{}},
		{"vms/disk*", ImageName{}},
		{"vms/>", ImageName{}},
		{"vms/a\x00", ImageName{}},
		{"vms/disk@..", ImageName{}},
		{"@", ImageName{}},
	}
	for _, c := range cases {
		got, err := ParseImage(c.in)
		if got != c.want || errors.Is(err, ErrName) != (c.want == ImageName{}) {
			t.Errorf("%q: got %+v, %v", c.in, got, err)
		}
		if err == nil {
			if again, err := ParseImage(got.String()); err != nil || again != got {
				t.Errorf("%q: its own text %q reads as %v, %v", c.in, got, again, err)
			}
		}
	}
}

// drawName draws a valid name: often a short one, often of characters that mean
// something to somebody.
func drawName() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom([]rune("aA0-_. =%é数😀:~")), 1, 255, 255),
		rapid.StringN(1, 255, 255),
		rapid.StringOfN(rapid.SampledFrom([]rune("数😀é")), 60, -1, 255),
	).Filter(func(s string) bool { return CheckName(s) == nil })
}

func TestTokensAreSafeAndDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawName().Draw(t, "a"), drawName().Draw(t, "b")
		token := Token(a)
		if token == "" || strings.ContainsAny(token, ".*> \t/\\") || !isASCII(token) {
			t.Fatalf("the token of %q is %q", a, token)
		}
		if (token == Token(b)) != (a == b) {
			t.Fatalf("the tokens of %q and %q: %q", a, b, token)
		}
	})
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// natsName is what the server allows as a stream's name.
func natsName(s string) bool {
	const nameBytesMax = 255 // JSMaxNameLen
	return s != "" && len(s) <= nameBytesMax && isASCII(s) && !strings.ContainsAny(s, `.*>/\`)
}

func drawPath() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		path := "/" + strings.Join(rapid.SliceOfN(drawName(), 0, 5).Draw(t, "steps"), "/")
		if len(path) > pathBytesMax {
			path = "/"
		}
		return path
	})
}

func TestJournalStreamNames(t *testing.T) {
	longest := strings.Repeat("数", 85)
	for _, c := range []struct {
		name DirectoryName
		want string // empty: only that it is valid
	}{
		{DirectoryName{"vms", "/"}, "JOURNAL_vms__0123456789abcdef"},
		{DirectoryName{"vms", "/prod/db"}, "JOURNAL_vms_prod_db_0123456789abcdef"},
		{DirectoryName{"my vms", "/a.b"}, "JOURNAL_my=20vms_a=2Eb_0123456789abcdef"},
		{DirectoryName{longest, "/" + longest + "/" + longest}, ""},
	} {
		got := JournalStream(c.name, sampleID)
		if !natsName(got) || (c.want != "" && got != c.want) {
			t.Errorf("%v: %q (%d bytes)", c.name, got, len(got))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		name := DirectoryName{drawName().Draw(t, "pool"), drawPath().Draw(t, "path")}
		if got := JournalStream(name, sampleID); !natsName(got) || !strings.HasSuffix(got, string(sampleID)) {
			t.Fatalf("%v: %q (%d bytes)", name, got, len(got))
		}
	})
}

// natsSubject is what may be published to: tokens without wildcards, blanks or gaps.
func natsSubject(s string) bool {
	const lineBytesMax = 4096 - 64 // the server's bound of a protocol line
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || !isASCII(token) || strings.ContainsAny(token, "*>") {
			return false
		}
	}
	return len(s) <= lineBytesMax
}

func TestSubjects(t *testing.T) {
	streams := SiteStreams()
	for _, f := range sampleFacts() {
		if !natsSubject(f.Subject()) || !strings.HasPrefix(f.Subject(), "tidemark.") {
			t.Errorf("%s goes to %q", f.Kind(), f.Subject())
		}
		stored := 0
		for _, s := range streams {
			for _, subject := range s.Subjects {
				if prefix, ok := strings.CutSuffix(subject, ">"); ok && strings.HasPrefix(f.Subject(), prefix) {
					stored++
				}
			}
		}
		_, beat := f.(*Heartbeat)
		_, head := f.(*HeadAdvanced)
		if want := 1; stored != want && !(beat || head) || (beat || head) && stored != 0 {
			t.Errorf("%s is stored by %d streams", f.Kind(), stored)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawName().Draw(t, "a"), drawName().Draw(t, "b")
		for _, s := range []string{
			EntriesSubject(a, sampleID), TagSubject(a, sampleID), HeadSubject(sampleID), PositionSubject(sampleID, a+"."+b),
			HeartbeatSubject(a, b), ControlSubject(a, b), RollCallSubject,
			(&DirectoryMapped{Pool: a, Directory: sampleID}).Subject(), (&PoolCreated{Pool: a}).Subject(),
			(&InstanceAdded{Node: a, Service: b}).Subject(), (&AcquireRequested{Assignment: Assignment{Node: a}}).Subject(),
		} {
			if !natsSubject(s) {
				t.Fatalf("subject %q", s)
			}
		}
	})
}
