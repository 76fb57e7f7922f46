//! Whether a file system keeps what it was told to sync.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use super::Error;
use crate::files;

/// What is known about a kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing bad.
    Fine,
    /// Its kind, and what to know of it.
    Doubtful(&'static str, &'static str),
    /// It is lost with the machine, or fsync and flock do not reach it.
    Volatile(&'static str),
}

const CONTAINER: &str = "if this is a container's own layer, the data goes with the container: mount a volume";
const CLUSTER: &str = "whether it keeps what was synced, and locks across machines, is up to its configuration";
const SIMPLE: &str =
    "it has no journal and no owners of files: a power cut can damage it, and everybody reads the keys";

/// By the magic number that statfs reports: those of linux/magic.h, and of file systems outside of the kernel.
fn assess(magic: u32) -> Verdict {
    match magic {
        0x0102_1994 => Verdict::Volatile("tmpfs"),
        0x8584_58f6 => Verdict::Volatile("ramfs"),
        0x9584_58f6 => Verdict::Volatile("hugetlbfs"),
        0x0000_6969 => Verdict::Volatile("NFS"),
        0x0000_517b => Verdict::Volatile("SMB"),
        0xff53_4d42 => Verdict::Volatile("CIFS"),
        0xfe53_4d42 => Verdict::Volatile("SMB2"),
        0x5346_414f | 0x6b41_4653 => Verdict::Volatile("AFS"),
        0x7375_7245 => Verdict::Volatile("Coda"),
        0x0000_564c => Verdict::Volatile("NCP"),
        // Also virtiofs, sshfs and s3fs.
        0x6573_5546 => Verdict::Volatile("FUSE or virtiofs"),
        // How WSL 2 and virtual machines see directories of their host, such as /mnt/c.
        0x0102_1997 => Verdict::Volatile("9p, a directory of the host"),
        0x5346_4846 => Verdict::Volatile("wslfs, a directory of Windows"),
        0x786f_4256 => Verdict::Volatile("vboxsf, a directory of the host"),
        0xbacb_acbc => Verdict::Volatile("vmhgfs, a directory of the host"),
        0x7c7c_6673 => Verdict::Volatile("prl_fs, a directory of the host"),
        0x794c_7630 => Verdict::Doubtful("overlayfs", CONTAINER),
        0x6175_6673 => Verdict::Doubtful("aufs", CONTAINER),
        0x00c3_6400 => Verdict::Doubtful("Ceph", CLUSTER),
        0x0bd0_0bd0 => Verdict::Doubtful("Lustre", CLUSTER),
        0x4750_4653 => Verdict::Doubtful("GPFS", CLUSTER),
        0x1983_0326 => Verdict::Doubtful("BeeGFS", CLUSTER),
        0x7461_636f => Verdict::Doubtful("OCFS2", CLUSTER),
        0x0116_1970 => Verdict::Doubtful("GFS2", CLUSTER),
        0x0000_4d44 => Verdict::Doubtful("FAT", SIMPLE),
        0x2011_bab0 => Verdict::Doubtful("exFAT", SIMPLE),
        _ => Verdict::Fine,
    }
}

/// Assesses the file system that `path` is on; if it does not exist yet, that of its nearest parent.
pub(super) fn check(path: &Path, allow_volatile_fs: bool) -> Result<(), Error> {
    let there = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statfs(there).map_err(|error| {
        Error::io(format!("cannot find the file system of {}", path.display()), io::Error::from(error))
    })?;
    // The type is wider on some platforms; the numbers have 32 bits everywhere.
    match assess(stat.f_type as u32) {
        Verdict::Fine => Ok(()),
        Verdict::Doubtful(kind, why) => {
            tracing::warn!(event = "startup.doubtful_filesystem", kind, path = %path.display(), "{why}");
            Ok(())
        }
        Verdict::Volatile(kind) if allow_volatile_fs => {
            tracing::warn!(event = "startup.volatile_filesystem", kind, path = %path.display(),
                "acknowledged writes may be lost; allowed by storage.allow_volatile_fs");
            Ok(())
        }
        Verdict::Volatile(kind) => Err(Error::UnsupportedFs { path: path.to_owned(), kind: kind.to_owned() }),
    }
}

/// Tries what the store relies on: syncs a file, renames it, syncs the directory, reads the file back.
pub(super) fn self_test(directory: &Path) -> Result<(), Error> {
    let (before, after) = (directory.join("self-test.tmp"), directory.join("self-test"));
    let text = "progressdb";
    let run = || {
        let mut file = File::create(&before)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&before, &after)?;
        files::sync_directory_of(&after)?;
        let read = fs::read_to_string(&after)?;
        fs::remove_file(&after)?;
        if read == text { Ok(()) } else { Err(io::Error::other("a file came back with other content")) }
    };
    match run() {
        // On a full disk the store still opens, for reads.
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Err(Error::UnsupportedFs {
                path: directory.to_owned(),
                kind: format!("a file system without sync ({error})"),
            })
        }
        result => result.map_err(|error| Error::io(format!("cannot write and sync in {}", directory.display()), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volatile_file_systems_are_known_by_their_numbers() {
        // tmpfs, ramfs, NFS, SMB, CIFS, SMB2, FUSE and virtiofs, 9p, wslfs, vboxsf, vmhgfs, AFS
        let volatile = [
            0x0102_1994,
            0x8584_58f6,
            0x6969,
            0x517b,
            0xff53_4d42,
            0xfe53_4d42,
            0x6573_5546,
            0x0102_1997,
            0x5346_4846,
            0x786f_4256,
            0xbacb_acbc,
            0x5346_414f,
        ];
        for magic in volatile {
            assert!(matches!(assess(magic), Verdict::Volatile(_)), "{magic:#x}");
        }
        // overlayfs, Ceph, FAT
        for magic in [0x794c_7630, 0x00c3_6400, 0x4d44] {
            assert!(matches!(assess(magic), Verdict::Doubtful(..)), "{magic:#x}");
        }
        // ext4, xfs, btrfs, zfs
        for magic in [0xef53, 0x5846_5342, 0x9123_683e, 0x2fc1_2fc1] {
            assert_eq!(assess(magic), Verdict::Fine, "{magic:#x}");
        }
    }

    #[test]
    fn tmpfs_is_refused_unless_allowed() {
        let path = Path::new("/dev/shm");
        let is_tmpfs =
            rustix::fs::statfs(path).is_ok_and(|stat| assess(stat.f_type as u32) == Verdict::Volatile("tmpfs"));
        if !is_tmpfs {
            return;
        }
        let error = check(path, false).unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert_eq!(
            error.to_string(),
            "/dev/shm is on tmpfs, which may lose acknowledged writes: use a local disk, or --allow-volatile-fs for tests"
        );
        check(path, true).unwrap();
    }

    #[test]
    fn the_self_test_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        self_test(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
