package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// disks is the directory of everything that outlives the driver:
//
//	volumes/ID/image.ext4      the file system        volumes/ID/disk.json      what it is
//	snapshots/ID/image.ext4                           snapshots/ID/disk.json
//
// disk.json is written last: a directory without it is what a killed driver left, and does not exist.
type disks string

// kind is the name of one of the two directories.
type kind string

const (
	volumes   kind = "volumes"
	snapshots kind = "snapshots"
)

// disk is a volume or a snapshot.
type disk struct {
	ID      string    `json:"id"`
	Bytes   int64     `json:"bytes"`
	Source  string    `json:"source,omitempty"` // of a snapshot: its volume; of a volume: what it was filled from
	Created time.Time `json:"created"`
	ReadyAt time.Time `json:"ready_at,omitzero"` // of a snapshot: from when it says that it is ready
}

func (d disks) prepare() error {
	for _, kind := range []kind{volumes, snapshots} {
		if err := os.MkdirAll(filepath.Join(string(d), string(kind)), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// idOf makes the same id from the same name, so that a repeated request finds what the first one made.
func idOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:12])
}

func (d disks) directory(kind kind, id string) string {
	return filepath.Join(string(d), string(kind), filepath.Base(id))
}

func (d disks) image(kind kind, id string) string {
	return filepath.Join(d.directory(kind, id), "image.ext4")
}

// load returns nil for what does not exist.
func (d disks) load(kind kind, id string) (*disk, error) {
	if id == "" {
		return nil, nil
	}
	content, err := os.ReadFile(filepath.Join(d.directory(kind, id), "disk.json"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var found disk
	return &found, json.Unmarshal(content, &found)
}

func (d disks) list(kind kind) ([]*disk, error) {
	entries, err := os.ReadDir(filepath.Join(string(d), string(kind)))
	if err != nil {
		return nil, err
	}
	var all []*disk
	for _, entry := range entries {
		found, err := d.load(kind, entry.Name())
		if err != nil {
			return nil, err
		}
		if found != nil {
			all = append(all, found)
		}
	}
	return all, nil
}

// create makes the directory anew, has it filled, and then lets the disk exist.
func (d disks) create(kind kind, made *disk, fill func(image string) error) error {
	if err := d.remove(kind, made.ID); err != nil {
		return err
	}
	if err := os.Mkdir(d.directory(kind, made.ID), 0o700); err != nil {
		return err
	}
	if err := fill(d.image(kind, made.ID)); err != nil {
		return err
	}
	return d.save(kind, made)
}

func (d disks) save(kind kind, changed *disk) error {
	content, err := json.Marshal(changed)
	if err != nil {
		return err
	}
	file := filepath.Join(d.directory(kind, changed.ID), "disk.json")
	if err := os.WriteFile(file+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func (d disks) remove(kind kind, id string) error {
	return os.RemoveAll(d.directory(kind, id))
}
