package bench

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImportDirections guards the map in ARCHITECTURE.md: a package may import
// of this module only what is listed for its folder, and what it owns.
func TestImportDirections(t *testing.T) {
	may := map[string][]string{
		"httpcodec": {},
		"engine":    {"httpcodec"},
		"ebpf":      {},
		"bench":     {"engine", "httpcodec"},
		"cmd":       {"engine", "ebpf", "httpcodec", "bench"},
	}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "hotlap/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		packages := strings.Fields(line)
		from := folder(packages[0])
		allowed, ok := may[from]
		if !ok {
			t.Errorf("%s is in no folder of the map", packages[0])
		}
		for _, imported := range packages[1:] {
			to := folder(imported)
			if from == "httpcodec" && strings.Contains(imported, ".") {
				t.Errorf("%s imports %s: it uses the standard library only", packages[0], imported)
			}
			if to == "" || to == from {
				continue
			}
			if !contains(allowed, to) {
				t.Errorf("%s imports %s", packages[0], imported)
			}
		}
	}
}

// folder returns the top folder of a package of this module, else "".
func folder(path string) string {
	rest, ok := strings.CutPrefix(path, "hotlap/")
	if !ok {
		return ""
	}
	top, _, _ := strings.Cut(rest, "/")
	return top
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
