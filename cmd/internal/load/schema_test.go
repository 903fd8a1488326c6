package load

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// The page about the report has every key of it.
func TestEveryKeyIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../hotlap/REPORT.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(path string, of reflect.Type)
	walk = func(path string, of reflect.Type) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || !strings.HasPrefix(of.PkgPath(), "hotlap/") {
			return
		}
		for i := range of.NumField() {
			f := of.Field(i)
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if key != "" && !strings.Contains(string(page), "`"+key+"`") {
				t.Errorf("%s.%s is not in the page", path, key)
			}
			if key != "" || f.Anonymous {
				walk(path+"."+key, f.Type)
			}
		}
	}
	walk("report", reflect.TypeFor[Report]())
	walk("comparison", reflect.TypeFor[Comparison]())
}
