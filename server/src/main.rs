//! The program: this version of it.

use std::process::ExitCode;

use progressdb_server::commands::{self, Program};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    commands::main(&Program::CURRENT)
}
