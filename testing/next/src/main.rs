//! Next versions of the server, for the tests of upgrades: this version's library, and what it does not have. All are one
//! program; `NEXT_VERSION` says which of them it is, and is set by their images. None is ever published.
//!
//! | Version | What becomes of it |
//! |---|---|
//! | `next` | it has one store format more: a start migration and a finalize migration |
//! | `next-plain` | nothing: an ordinary release |
//! | `next-unready` | it lives and never gets ready |
//! | `next-slow` | each write takes longer |
//! | `next-smoke` | an edit is lost if the store had anything in it when it started |
//! | `next-corrupt` | as `next`, but a start migration changes one character of one message |

mod around;
mod migrations;

use std::convert::identity;
use std::process::ExitCode;

use progressdb_server::commands::{self, Program};
use progressdb_server::format::Formats;

use self::migrations::{HEADS, REPLIES, TIDY};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The variable that names the version.
const NAME: &str = "NEXT_VERSION";
const DEFAULT: &str = "next";

fn main() -> ExitCode {
    #[allow(clippy::disallowed_methods, reason = "the library does not read this variable")]
    let name = std::env::var(NAME).unwrap_or_else(|_| DEFAULT.to_owned());
    let Some(program) = program(&name) else {
        eprintln!("{NAME}: there is no version {name:?}");
        return ExitCode::from(2);
    };
    commands::main(&program)
}

fn program(name: &str) -> Option<Program> {
    let (version, formats, around) = match name {
        "next" => ("0.4.0-next", FORMAT_2, identity as _),
        "next-plain" => ("0.4.0-next-plain", Formats::CURRENT, identity as _),
        "next-unready" => ("0.4.0-next-unready", Formats::CURRENT, around::never_ready as _),
        "next-slow" => ("0.4.0-next-slow", Formats::CURRENT, around::slow as _),
        "next-smoke" => ("0.4.0-next-smoke", Formats::CURRENT, around::losing_edits as _),
        "next-corrupt" => ("0.4.0-next-corrupt", CORRUPTING, identity as _),
        _ => return None,
    };
    Some(Program { formats: Formats { version, ..formats }, around })
}

const FORMAT_2: Formats = Formats { reads: [1, 2], writes: 2, migrations: &[REPLIES, HEADS], ..Formats::CURRENT };
const CORRUPTING: Formats = Formats { migrations: &[REPLIES, TIDY, HEADS], ..FORMAT_2 };
