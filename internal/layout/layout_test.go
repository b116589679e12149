package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module    = "tidemark/"
	jetStream = "github.com/nats-io/nats.go/jetstream"
	server    = "github.com/nats-io/nats-server/"
)

// goPackage is what `go list -json` says of a package.
type goPackage struct {
	ImportPath   string
	Doc          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// list returns every package of the module.
func list(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Doc,GoFiles,Imports,TestImports,XTestImports", module+"...")
	var messages bytes.Buffer
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &messages)
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("output of go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages: is this the module's folder?", len(all))
	}
	return all
}

// layer is the storey that a package lives on; a package imports only what lies on its
// own or below. The tests' packages of a service or of internal live with them.
type layer int

const (
	foreign layer = iota
	language
	shared
	service
	program
)

func layerOf(path string) layer {
	rest, ours := strings.CutPrefix(path, module)
	first, _, _ := strings.Cut(rest, "/")
	switch {
	case !ours:
		return foreign
	case first == "events":
		return language
	case first == "internal", first == "docs":
		return shared
	case first == "services":
		return service
	}
	return program
}

// serviceOf returns the service that a package belongs to, "" for none.
func serviceOf(path string) string {
	rest, ok := strings.CutPrefix(path, module+"services/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// wrong says why a package must not import another; "" if it may.
func wrong(from, to string) string {
	switch {
	case layerOf(from) < layerOf(to):
		return "imports point down: cmd, e2e -> services -> internal -> events"
	case layerOf(from) == language && layerOf(to) != foreign:
		return "events imports nothing of ours"
	case serviceOf(from) != "" && serviceOf(to) != "" && serviceOf(from) != serviceOf(to):
		return "services do not import each other: they meet on the bus"
	// What checks a site in tests reads the server's own times, which nothing else needs.
	case to == jetStream && !slices.Contains([]string{module + "internal/bus", module + "internal/natsd", module + "internal/sitetest"}, from):
		return "JetStream is reached through internal/bus"
	case strings.HasPrefix(to, server) && from != module+"internal/natsd":
		return "the NATS server is run by internal/natsd"
	}
	return ""
}

func TestImportDirection(t *testing.T) {
	for _, p := range list(t) {
		for _, to := range p.Imports {
			if why := wrong(p.ImportPath, to); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, to, why)
			}
		}
	}
}

// A test may run a neighbour beside its own service, or a server of its own, but what
// lies below must not know what lies above even there.
func TestImportDirectionOfTests(t *testing.T) {
	for _, p := range list(t) {
		for _, to := range slices.Concat(p.TestImports, p.XTestImports) {
			if layerOf(p.ImportPath) < layerOf(to) {
				t.Errorf("a test of %s imports %s: imports point down", p.ImportPath, to)
			}
		}
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	for _, p := range list(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestWrongIsNoticed(t *testing.T) {
	for _, c := range []struct {
		from, to string
		bad      bool
	}{
		{"tidemark/services/journal", "tidemark/services/policy", true},
		{"tidemark/services/journal", "tidemark/services/journal/internal/x", false},
		{"tidemark/services/journal", jetStream, true},
		{"tidemark/internal/bus", jetStream, false},
		{"tidemark/internal/bus", "tidemark/services/journal", true},
		{"tidemark/events", "tidemark/internal/fault", true},
		{"tidemark/events", "github.com/vmihailenco/msgpack/v5", false},
		{"tidemark/cmd/tidemark", "tidemark/services/journal", false},
		{"tidemark/services/journal", "tidemark/cmd/tidemark/internal/bench", true},
		{"tidemark/cmd/tidemark", "github.com/nats-io/nats-server/v2/server", true},
	} {
		if got := wrong(c.from, c.to) != ""; got != c.bad {
			t.Errorf("%s imports %s: wrong is %v", c.from, c.to, got)
		}
	}
}
