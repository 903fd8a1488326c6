package tune

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A replica is the settings of this machine's network namespace that another
// one can be given, by name.
type replica map[string]string

// replicaFolders hold what is TCP's. Settings of devices and neighbours, in folders
// below, are not copied: a new namespace has other devices.
var replicaFolders = []string{"net.core", "net.ipv4"}

// readReplica reads the settings of the calling thread's network namespace.
func readReplica() (replica, error) {
	r := replica{}
	for _, folder := range replicaFolders {
		files, err := os.ReadDir(sysctlFile(folder))
		if err != nil {
			return nil, fmt.Errorf("settings of this machine: %w", err)
		}
		for _, f := range files {
			// Those that only root may read are secrets, such as TCP Fast Open's key.
			info, err := f.Info()
			if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o044 == 0 {
				continue
			}
			name := folder + "." + f.Name()
			if value, err := Read(name); err == nil {
				r[name] = value
			}
		}
	}
	return r, nil
}

// copy gives the settings to the calling thread's network namespace, and returns
// the names of those that it would not take. What the namespace has not, or does not
// let be written, is the whole machine's, and the same there.
func (r replica) copy() (refused []string) {
	left := r
	for range 2 { // what depends on another setting succeeds after it
		failed := replica{}
		for name, value := range left {
			if err := copyOne(name, value); err != nil {
				failed[name] = value
			}
		}
		left = failed
	}
	return slices.Sorted(maps.Keys(left))
}

func copyOne(name, value string) error {
	there, err := Read(name)
	if err == nil && !same(there, value) {
		err = Write(name, value)
	}
	for _, notItsOwn := range []error{fs.ErrNotExist, fs.ErrPermission, unix.EROFS} {
		if errors.Is(err, notItsOwn) {
			return nil
		}
	}
	return err
}

// Globals are the machine's values of knobs that no namespace has of its own: they
// act on an experiment as on all else.
func Globals() []string {
	var list []string
	for _, k := range Knobs {
		if k.Scope != Host || !strings.HasPrefix(k.Name, "net.") {
			continue
		}
		if value, err := Read(k.Name); err == nil {
			list = append(list, short(k.Name)+" "+strings.Join(strings.Fields(value), " "))
		}
	}
	return list
}

// short is a setting's name without its folders.
func short(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
