//! The program: this version of it.

use std::process::ExitCode;

use progressdb_server::{commands, format::Formats};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    commands::main(&Formats::CURRENT)
}
