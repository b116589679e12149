package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// setting is one line KEY=VALUE of a systemd unit.
type setting struct{ Section, Key, Value string }

// Unit is a systemd unit as systemd reads it: the file and its drop-ins.
type Unit struct {
	Name     string
	settings []setting
}

// ReadUnit reads a unit (a template as NAME@.service) and its drop-ins from a folder.
func ReadUnit(dir, name string) (Unit, error) {
	u := Unit{Name: name}
	if err := u.read(filepath.Join(dir, name)); err != nil {
		return u, err
	}
	for _, folder := range dropIns(name) {
		entries, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return u, err
		}
		for _, e := range entries { // sorted by name, as systemd reads them
			if filepath.Ext(e.Name()) != ".conf" {
				continue
			}
			if err := u.read(filepath.Join(dir, folder, e.Name())); err != nil {
				return u, err
			}
		}
	}
	return u, nil
}

// dropIns names the folders of a unit's drop-ins, the most general first: each dash of
// the name ends a prefix that has one.
func dropIns(name string) []string {
	stem, kind := strings.TrimSuffix(name, filepath.Ext(name)), filepath.Ext(name)
	folders := []string{name + ".d"}
	for i, c := range stem {
		if c == '-' {
			folders = append(folders, stem[:i+1]+kind+".d")
		}
	}
	slices.Sort(folders) // a prefix comes before what it begins
	return folders
}

func (u *Unit) read(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	section, number := "", 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		key, value, found := strings.Cut(line, "=")
		switch {
		case line == "", line[0] == '#', line[0] == ';':
		case line[0] == '[' && line[len(line)-1] == ']':
			section = line[1 : len(line)-1]
		case !found || section == "" || strings.HasSuffix(line, `\`):
			return fmt.Errorf("%s:%d: %q is no setting", file, number, line)
		default:
			u.settings = append(u.settings, setting{section, key, value})
		}
	}
	return nil
}

// Get returns the last value of a setting, "" for none.
func (u Unit) Get(section, key string) string {
	all := u.All(section, key)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

// All returns the values of a setting that may be repeated.
func (u Unit) All(section, key string) []string {
	var all []string
	for _, s := range u.settings {
		if s.Section == section && s.Key == key {
			all = append(all, s.Value)
		}
	}
	return all
}

var (
	specifier = regexp.MustCompile(`%.`)
	inWord    = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)
	wholeWord = regexp.MustCompile(`^\$([A-Za-z_][A-Za-z0-9_]*)$`)
)

// Command returns the words of ExecStart with its specifiers and variables filled in: a
// ${NAME} stands for one word or a part of it, a $NAME that is a word for as many as it has.
func (u Unit) Command(specifiers, variables map[string]string) ([]string, error) {
	var missing []string
	look := func(name, key string, in map[string]string) string {
		value, ok := in[key]
		if !ok {
			missing = append(missing, name)
		}
		return value
	}
	line := specifier.ReplaceAllStringFunc(u.Get("Service", "ExecStart"), func(s string) string {
		return look(s, s[1:], specifiers)
	})
	var words []string
	for word := range strings.FieldsSeq(line) {
		if m := wholeWord.FindStringSubmatch(word); m != nil {
			words = append(words, strings.Fields(look(word, m[1], variables))...)
			continue
		}
		words = append(words, inWord.ReplaceAllStringFunc(word, func(s string) string {
			return look(s, s[2:len(s)-1], variables)
		}))
	}
	if len(missing) > 0 || len(words) == 0 {
		return nil, fmt.Errorf("%s: ExecStart %q: nothing is known of %s", u.Name, line, strings.Join(missing, ", "))
	}
	return words, nil
}

// ReadEnvironment reads a file of lines NAME=VALUE, as EnvironmentFile= does.
func ReadEnvironment(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	variables := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if !found {
			return nil, fmt.Errorf("%s: %q is no variable", file, line)
		}
		variables[name] = strings.Trim(value, `"`)
	}
	return variables, nil
}
