package access

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Configuration writes users as the value of "users" in a NATS server's configuration: a
// list in brackets. It holds public keys only.
func Configuration(users ...User) string {
	var b strings.Builder
	b.WriteString("[\n")
	for _, u := range users {
		fmt.Fprintf(&b, "  # %s\n  {\n    nkey: %s\n    permissions: {\n", comment(u.Name), u.Key)
		fmt.Fprintf(&b, "      publish: { allow: %s", list(u.Publish))
		if len(u.DenyPublish) > 0 {
			fmt.Fprintf(&b, ", deny: %s", list(u.DenyPublish))
		}
		fmt.Fprintf(&b, " }\n      subscribe: { allow: %s }\n    }\n  }\n", list(u.Subscribe))
	}
	b.WriteString("]\n")
	return b.String()
}

// comment keeps a name on the line of its comment.
func comment(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, name)
}

// list writes subjects as a list of quoted strings, one to a line.
func list(subjects []string) string {
	if len(subjects) == 0 {
		return "[]"
	}
	var b strings.Builder
	b.WriteString("[\n")
	for _, s := range subjects {
		quoted, _ := json.Marshal(s) // a string always encodes
		fmt.Fprintf(&b, "        %s\n", unescape(string(quoted)))
	}
	b.WriteString("      ]")
	return b.String()
}

// unescape gives back what JSON escapes for HTML and a configuration does not know.
func unescape(s string) string { return strings.ReplaceAll(s, `\u003e`, ">") }
