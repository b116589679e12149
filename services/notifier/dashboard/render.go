package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
)

//go:embed assets
var assets embed.FS

// renderer makes HTML of pages.
type renderer struct {
	pages   *template.Template
	files   map[string][]byte // what the page loads, by name
	version string            // changes with the files
}

func newRenderer() (*renderer, error) {
	pages, err := template.ParseFS(assets, "assets/page.html")
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	r := &renderer{pages: pages, files: map[string][]byte{}}
	sum := sha256.New()
	for _, name := range []string{"style.css", "script.js", "icon.svg"} {
		if r.files[name], err = assets.ReadFile("assets/" + name); err != nil {
			return nil, fmt.Errorf("dashboard: %w", err)
		}
		_, _ = sum.Write(r.files[name]) // into memory
	}
	r.version = hex.EncodeToString(sum.Sum(nil)[:6])
	return r, nil
}

// whole renders the page, live those of its parts that change.
func (r *renderer) whole(p Page) ([]byte, error) { return r.render("page", p) }

func (r *renderer) live(p Page) ([]byte, error) { return r.render("live", p) }

func (r *renderer) render(name string, p Page) ([]byte, error) {
	var out bytes.Buffer
	if err := r.pages.ExecuteTemplate(&out, name, p); err != nil {
		return nil, fmt.Errorf("render the dashboard: %w", err)
	}
	return out.Bytes(), nil
}
