//! Work beside a server that has clients: it takes the processor time that nobody else wants.
//!
//! It runs on a thread of its own, because a process without privileges cannot raise a priority that it lowered. Threads that
//! the work starts inherit the priority, so locks that clients wait for are to be taken elsewhere.

use std::panic::resume_unwind;
use std::{io, thread};

use rustix::process::setpriority_process;

/// The nice value of the lowest priority. It gets little, yet never nothing, while others want all.
const LOWEST: i32 = 19;

/// Does `work` at the lowest priority, and waits for it.
pub(super) fn in_background<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let low = || {
        // On Linux that is this thread alone. Everybody may lower a priority, unless a sandbox forbids it.
        let _ = setpriority_process(None, LOWEST);
        work()
    };
    thread::scope(|scope| {
        let running = thread::Builder::new().name("backup".into()).spawn_scoped(scope, low)?;
        Ok(running.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn the_work_and_what_it_starts_have_the_lowest_priority_and_nobody_else() {
        let before = getpriority_process(None).unwrap();
        let own = || getpriority_process(None).unwrap();
        let inside = in_background(|| (own(), thread::scope(|scope| scope.spawn(own).join().unwrap()))).unwrap();
        assert_eq!((inside, own()), ((19, 19), before));
    }
}
