//! Keeps programs and their memory small: the linker merges functions that compile to the same code, and packs relocations
//! where the C library can read them.

use std::process::Command;

/// Tells the linker, for the programs of the package whose build script calls this.
#[expect(clippy::disallowed_methods, reason = "only its environment tells a build script what to build")]
pub(crate) fn link_small() -> Result<(), std::env::VarError> {
    println!("cargo::rerun-if-changed=../build/link.rs");
    let (host, target) = (std::env::var("HOST")?, std::env::var("TARGET")?);
    if host == target && target == "x86_64-unknown-linux-gnu" {
        // The toolchain brings LLVM's linker for this target. `safe` would merge nothing: the compiler does not say which
        // addresses are compared. Two functions that do the same may have one address here; nothing tells them apart by it.
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        if glibc().is_some_and(|version| version >= (2, 36)) {
            println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        }
    }
    Ok(())
}

/// The version of this machine's C library. Packed relocations need 2.36, and a program runs where the library is no
/// older than the one it was built with. `None` if it is not glibc.
fn glibc() -> Option<(u32, u32)> {
    let answer = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
