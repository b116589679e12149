package e2e_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// random picks an operation. Many are refused, which is a part of it.
func (o *operator) random() operation {
	image, _ := o.image()
	path := operationsDir + "/" + image
	switch rand.IntN(14) {
	case 0:
		if len(o.now) < operationImages {
			return o.create()
		}
		return removeImage(path, image)
	case 1:
		return resizeImage(path, image, operationUnit*(1+rand.IntN(5)))
	case 2:
		return renameImage(path, image, o.fresh("r"))
	case 3:
		return linkImage(path, image, o.fresh("l"))
	case 4:
		return metadata(path, image, fmt.Sprint("k", rand.IntN(3)), o.fresh("v"))
	case 5:
		return metadata(path, image, fmt.Sprint("k", rand.IntN(3)), "")
	case 6, 7:
		return createSnapshot(path, image, o.fresh("s"))
	case 8:
		return o.cloneSnapshot()
	case 9:
		return flattenImage(path, image)
	}
	return o.onSnapshot()
}

func (o *operator) create() operation {
	name := o.fresh("i")
	args := []string{"image", "create", operationsDir + "/" + name, "--size", fmt.Sprint(operationImage), "--object-size", "64KiB"}
	return operation{args, func(c catalogue) catalogue { return c.plus(name, make([]byte, operationImage), "") }}
}

func removeImage(path, name string) operation {
	return operation{[]string{"image", "remove", path}, func(c catalogue) catalogue {
		id, ok := c.named(name)
		if !ok {
			return nil
		}
		out := c.clone()
		image := out[id]
		if len(image.Names) > 1 { // only the link goes
			return c.with(name, func(image *imageState) bool {
				image.Names = slices.DeleteFunc(image.Names, func(n string) bool { return n == name })
				return true
			})
		}
		if len(image.Snaps) > 0 {
			return nil
		}
		delete(out, id)
		return out
	}}
}

func resizeImage(path, name string, size int) operation {
	return operation{[]string{"image", "resize", path, "--size", fmt.Sprint(size), "--allow-shrink"}, func(c catalogue) catalogue {
		return c.with(name, func(image *imageState) bool {
			content := make([]byte, size)
			copy(content, image.Content)
			image.Content = content
			return true
		})
	}}
}

func renameImage(path, name, to string) operation {
	return operation{[]string{"image", "rename", path, to}, func(c catalogue) catalogue {
		return c.with(name, func(image *imageState) bool {
			image.Names[slices.Index(image.Names, name)] = to
			return true
		})
	}}
}

func linkImage(path, name, to string) operation {
	return operation{[]string{"image", "link", path, to}, func(c catalogue) catalogue {
		return c.with(name, func(image *imageState) bool {
			image.Names = append(image.Names, to)
			return true
		})
	}}
}

// metadata sets a key, or removes it if the value is empty.
func metadata(path, name, key, value string) operation {
	args := []string{"image", "meta", "set", path, key, value}
	if value == "" {
		args = []string{"image", "meta", "remove", path, key}
	}
	return operation{args, func(c catalogue) catalogue {
		return c.with(name, func(image *imageState) bool {
			if _, ok := image.Metadata[key]; !ok && value == "" {
				return false
			}
			delete(image.Metadata, key)
			if value != "" {
				image.Metadata[key] = value
			}
			return true
		})
	}}
}

func createSnapshot(path, name, snap string) operation {
	return operation{[]string{"snap", "create", path + "@" + snap}, func(c catalogue) catalogue {
		return c.with(name, func(image *imageState) bool {
			image.Snaps[snap] = snapState{Content: image.Content}
			return true
		})
	}}
}

func (o *operator) cloneSnapshot() operation {
	name, snap := o.snapshot()
	if len(o.now) >= operationImages {
		return operation{[]string{"image", "info", operationsDir + "/missing"}, func(catalogue) catalogue { return nil }}
	}
	to := o.fresh("c")
	args := []string{"clone", operationsDir + "/" + name + "@" + snap, operationsDir + "/" + to}
	return operation{args, func(c catalogue) catalogue {
		id, _ := c.named(name)
		s, ok := c[id].Snaps[snap]
		if !ok || !s.Protected {
			return nil
		}
		return c.plus(to, s.Content, id+"@"+snap)
	}}
}

func flattenImage(path, name string) operation {
	return operation{[]string{"flatten", path}, func(c catalogue) catalogue {
		return c.with(name, func(image *imageState) bool {
			had := image.Parent != ""
			image.Parent = ""
			return had
		})
	}}
}

// onSnapshot is an operation on a snapshot that there is, as a rule.
func (o *operator) onSnapshot() operation {
	name, snap := o.snapshot()
	verb := []string{"protect", "protect", "unprotect", "remove", "rename", "rollback"}[rand.IntN(6)]
	args, to := []string{"snap", verb, operationsDir + "/" + name + "@" + snap}, o.fresh("t")
	if verb == "rename" {
		args = append(args, operationsDir+"/"+name+"@"+to)
	}
	return operation{args, func(c catalogue) catalogue {
		id, _ := c.named(name)
		hasClones := c.hasClones(id + "@" + snap)
		out := c.with(name, func(image *imageState) bool {
			s, ok := image.Snaps[snap]
			if !ok {
				return false
			}
			image.Snaps = maps.Clone(image.Snaps)
			switch verb {
			case "protect", "unprotect":
				if s.Protected == (verb == "protect") || hasClones {
					return false
				}
				s.Protected = verb == "protect"
				image.Snaps[snap] = s
			case "remove":
				delete(image.Snaps, snap)
				return !s.Protected
			case "rename":
				delete(image.Snaps, snap)
				image.Snaps[to] = s
			case "rollback":
				image.Content = s.Content
			}
			return true
		})
		if verb == "rename" && out != nil {
			out.renameParent(id+"@"+snap, id+"@"+to)
		}
		return out
	}}
}
