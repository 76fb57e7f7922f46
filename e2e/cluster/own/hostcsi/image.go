package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// run reports what the program printed, which is where mount, mkfs and their like say why.
func run(name string, args ...string) error {
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, output)
	}
	return nil
}

func makeFileSystem(image string, bytes int64) error {
	file, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Truncate(bytes), file.Close()); err != nil {
		return err
	}
	return run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", image)
}

// fileSystemBytes reads the superblock: block count and block size.
func fileSystemBytes(image string) (int64, error) {
	file, err := os.Open(image)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	var superblock [28]byte
	if _, err := file.ReadAt(superblock[:], 1024); err != nil {
		return 0, err
	}
	blocks := binary.LittleEndian.Uint32(superblock[4:])
	return int64(blocks) << (10 + binary.LittleEndian.Uint32(superblock[24:])), nil
}

// grow enlarges a file system that is not mounted, and does nothing to one that is large enough.
func grow(image string, bytes int64) error {
	have, err := fileSystemBytes(image)
	if err != nil || have >= bytes {
		return err
	}
	if err := os.Truncate(image, bytes); err != nil {
		return err
	}
	// resize2fs insists on a check; that one reports a repair as a failure, and resize2fs refuses what is not repaired.
	_ = exec.Command("e2fsck", "-f", "-p", image).Run()
	return run("resize2fs", image)
}

const freeze, thaw = 0xC0045877, 0xC0045878 // FIFREEZE and FITHAW of linux/fs.h

// frozen runs copy while nothing changes in the image: its file system, if it is mounted, is frozen for that time.
func frozen(image string, copy func() error) error {
	device := loopDevice(image)
	mounts, err := mountsOf(device)
	if err != nil {
		return err
	}
	if len(mounts) == 0 {
		return copy()
	}
	root, err := os.Open(mounts[0])
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unix.IoctlSetInt(int(root.Fd()), freeze, 0); err != nil {
		return fmt.Errorf("freeze %s: %w", mounts[0], err)
	}
	defer func() {
		if err := unix.IoctlSetInt(int(root.Fd()), thaw, 0); err != nil {
			log.Printf("thaw %s: %v", mounts[0], err)
		}
	}()
	if err := syncDevice(device); err != nil {
		return err
	}
	return copy()
}

// syncDevice puts into the file what the loop device still holds back.
func syncDevice(device string) error {
	file, err := os.Open(device)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// copySparse copies what is allocated; holes stay holes.
func copySparse(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := target.Truncate(info.Size()); err != nil {
		return err
	}
	for at := int64(0); at < info.Size(); {
		start, err := source.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole to the end
		} else if err != nil {
			return err
		}
		end, err := source.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(target, start), io.NewSectionReader(source, start, end-start)); err != nil {
			return err
		}
		at = end
	}
	return target.Sync()
}
