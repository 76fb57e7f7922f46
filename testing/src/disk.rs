//! A file system of a test's own, in a file: to fill it, break it, or copy it. It needs root and a loop device.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{missing, skip, temporary_directory};

/// An error of the file system turns it read-only.
const OPTIONS: &str = "errors=remount-ro";

/// A mounted image. Unmounted when dropped, also when the test fails, which frees the loop device too.
pub struct Disk {
    /// Where it is mounted.
    pub at: PathBuf,
    /// The file that it lies in.
    pub image: PathBuf,
}

impl Disk {
    /// A new file system of this size, made by the command `mkfs`. `None` where it cannot be made: `test` is skipped.
    pub fn make(test: &str, directory: &Path, size: u64, mkfs: &[&str], options: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip(test, "not root, so no file system can be mounted");
            return None;
        }
        let (image, at) = (directory.join("image"), directory.join("mounted"));
        fs::create_dir_all(directory).unwrap();
        File::create(&image).unwrap().set_len(size).unwrap();
        let mut make = Command::new(mkfs[0]);
        let Ok(made) = make.args(&mkfs[1..]).arg(&image).output() else {
            missing(test, &format!("{} is not installed", mkfs[0]));
            return None;
        };
        assert!(made.status.success(), "{mkfs:?}: {}", String::from_utf8_lossy(&made.stderr));
        match Self::mount(&image, &at, options) {
            Ok(disk) => Some(disk),
            Err(reason) => {
                skip(test, &reason);
                None
            }
        }
    }

    /// Mounts an image that holds a file system. The error is what `mount` printed.
    pub fn mount(image: &Path, at: &Path, options: &str) -> Result<Self, String> {
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("loop,{options}")]).args([image, at]);
        match mount.output() {
            Ok(output) if output.status.success() => Ok(Self { at: at.to_owned(), image: image.to_owned() }),
            Ok(output) => Err(format!("{mount:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(format!("mount: {error}")),
        }
    }

    /// The name of its loop device, such as `loop3`.
    pub fn device(&self) -> String {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let at = self.at.to_str().unwrap();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(at)).unwrap();
        line.split(' ').next().unwrap().trim_start_matches("/dev/").to_owned()
    }

    /// Bytes that an ordinary user may still write.
    pub fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.at).unwrap();
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.at).output().is_ok_and(|output| output.status.success());
        if !unmounted {
            // A server that a failing test left behind must not keep it mounted.
            let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
        }
    }
}

/// A small ext4 file system, to be filled.
pub struct SmallDisk {
    /// The file system.
    pub disk: Disk,
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where it cannot be made: `test` is skipped.
    pub fn mount(test: &str, size: u64) -> Option<Self> {
        let directory = temporary_directory();
        let disk = Disk::make(test, directory.path(), size, &["mkfs.ext4", "-q", "-F", "-m", "0"], OPTIONS)?;
        Some(Self { disk, directory })
    }

    /// Mounts it anew, as after a restart of the machine.
    pub fn remount(self) -> Self {
        let Self { disk, directory } = self;
        let (image, at) = (disk.image.clone(), disk.at.clone());
        drop(disk);
        Self { disk: Disk::mount(&image, &at, OPTIONS).unwrap(), directory }
    }

    /// Leaves at most `left` bytes free. Real bytes: a hole would take nothing.
    pub fn fill(&self, left: u64) {
        let mut file = File::options().create(true).append(true).open(self.filler()).unwrap();
        let mut chunk = 1 << 20;
        while self.disk.free() > left && chunk >= 4096 {
            if self.disk.free().saturating_sub(left) < chunk as u64 || file.write_all(&vec![7; chunk]).is_err() {
                chunk /= 2;
            }
        }
        let _ = file.sync_all();
    }

    /// Takes away what [`Self::fill`] wrote.
    pub fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
        rustix::fs::sync();
    }

    fn filler(&self) -> PathBuf {
        self.disk.at.join("filler")
    }
}
