//! Metrics of this process, read from `/proc` when metrics are rendered. Absent on other systems.

use std::fs;

use metrics::gauge;

/// Clock ticks a second in `/proc`; fixed by Linux's interface to programs, whatever the kernel uses inside.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn measure() {
    let values = [
        ("process_resident_memory_bytes", resident_bytes()),
        ("process_open_fds", open_files()),
        ("process_start_time_seconds", start_time()),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            gauge!(name).set(value);
        }
    }
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn open_files() -> Option<f64> {
    // Reading the directory takes one itself.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn start_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name stands in brackets and may hold spaces; the 22nd field is the 20th after it.
    let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(boot + ticks / TICKS_PER_SECOND)
}
