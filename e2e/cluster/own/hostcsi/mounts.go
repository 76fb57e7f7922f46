package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// loopDevice returns the device over an image, or nothing.
func loopDevice(image string) string {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return ""
	}
	for _, file := range files {
		// A device that went away since the listing is not the one.
		if content, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(content)) == image {
			return "/dev/" + strings.Split(file, "/")[3]
		}
	}
	return ""
}

// mountsOf returns every place where the device is mounted.
func mountsOf(device string) ([]string, error) {
	if device == "" {
		return nil, nil
	}
	return mountPoints(func(_, mounted string) bool { return mounted == device })
}

func isMounted(directory string) (bool, error) {
	found, err := mountPoints(func(at, _ string) bool { return at == directory })
	return len(found) > 0, err
}

// mountPoints lists those that want answers yes to, given the place and the device.
func mountPoints(want func(at, device string) bool) ([]string, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		// Five fields, options without a fixed number, a dash, then type and device.
		dash := slices.Index(fields, "-")
		if dash < 5 || len(fields) < dash+3 {
			continue
		}
		if at := unescape.Replace(fields[4]); want(at, fields[dash+2]) {
			found = append(found, at)
		}
	}
	return found, nil
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`)

func unmount(directory string) error {
	mounted, err := isMounted(directory)
	if err != nil || !mounted {
		return err
	}
	return run("umount", directory)
}
