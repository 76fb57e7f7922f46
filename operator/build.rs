//! Keeps the program small.

use std::error::Error;

#[path = "../build/link.rs"]
mod link;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    Ok(link::link_small()?)
}
