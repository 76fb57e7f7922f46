//! The machine that the figures belong to: what it is, how fast its disk syncs, and whether it is busy with other things.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::client::BODY_BYTES;
use crate::clock;
use crate::load::histogram;
use crate::noise::Noise;

const BUSY_LOAD: f64 = 0.3;
const BUSY_STEAL: f64 = 0.01;

/// Kernel, processors, memory and file system of `directory`.
pub(crate) fn describe(directory: &Path, processors: usize) -> Result<Value> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let memory = fs::read_to_string("/proc/meminfo")?;
    let directory = directory.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(json!({
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "processor": model.trim_start_matches(['\t', ' ', ':']),
        "processors": processors,
        "memory": memory.lines().next().and_then(|line| line.strip_prefix("MemTotal:")).unwrap_or("unknown").trim(),
        "file_system": file_system(&mounts, &directory),
    }))
}

/// How many processors this program may use.
pub(crate) fn processors() -> Result<usize> {
    Ok(std::thread::available_parallelism()?.get())
}

/// Type, device and options of the mount that holds `directory`: the longest mount point above it.
fn file_system(mounts: &str, directory: &Path) -> String {
    let mut best = (0, String::from("unknown"));
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<_> = left.split(' ').collect();
        let right: Vec<_> = right.split(' ').collect();
        if let ([_, _, _, _, point, options, ..], [kind, device, ..]) = (&left[..], &right[..])
            && directory.starts_with(point)
            && point.len() >= best.0
        {
            best = (point.len(), format!("{kind} on {device} ({options})"));
        }
    }
    best.1
}

/// Says what else keeps the machine busy, if anything does: the figures are worth less then.
pub(crate) async fn business() -> Result<Option<String>> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let load: f64 = load.split(' ').next().context("no load")?.parse()?;
    let before = processor_time(&fs::read_to_string("/proc/stat")?)?;
    clock::sleep_until(clock::now() + Duration::from_secs(1)).await;
    let after = processor_time(&fs::read_to_string("/proc/stat")?)?;
    let share = |part: fn(&Time) -> u64| (part(&after) - part(&before)) as f64 / (after.all - before.all).max(1) as f64;
    let (steal, idle) = (share(|time| time.steal), share(|time| time.idle));
    let busy = load > BUSY_LOAD || steal > BUSY_STEAL;
    Ok(busy.then(|| {
        let (steal, idle) = (steal * 100.0, idle * 100.0);
        format!("the machine was not idle at the start: load {load}, {steal:.1} % stolen, {idle:.0} % idle")
    }))
}

struct Time {
    all: u64,
    idle: u64,
    steal: u64,
}

fn processor_time(stat: &str) -> Result<Time> {
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("no processor time")?;
    let fields: Vec<u64> = line.split_ascii_whitespace().take(8).map(str::parse).collect::<Result<_, _>>()?;
    let [_, _, _, idle, iowait, _, _, steal] = fields[..] else { anyhow::bail!("/proc/stat is strange") };
    Ok(Time { all: fields.iter().sum(), idle: idle + iowait, steal })
}

/// Appends 256 bytes and syncs them, again and again for `duration`: what every durable append has to wait for.
pub(crate) fn write_and_sync(directory: &Path, duration: Duration) -> Result<Histogram<u64>> {
    let path = directory.join("write-and-sync");
    let mut file = File::create(&path)?;
    let (mut noise, mut body, mut latency) = (Noise::new(0), [0; BODY_BYTES], histogram());
    let mut begin = clock::now();
    let end = begin + duration;
    while begin < end {
        noise.fill(&mut body);
        file.write_all(&body)?;
        file.sync_data()?;
        let done = clock::now();
        latency.saturating_record(u64::try_from((done - begin).as_nanos())?);
        begin = done;
    }
    fs::remove_file(path)?;
    Ok(latency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_wins() {
        let mounts = "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/a rw\n\
                      2 1 8:2 / /data rw,noatime - xfs /dev/b rw\n\
                      3 1 0:9 / /dat rw - tmpfs tmpfs rw\n";
        assert_eq!(file_system(mounts, Path::new("/data/x")), "xfs on /dev/b (rw,noatime)");
        assert_eq!(file_system(mounts, Path::new("/home")), "ext4 on /dev/a (rw,relatime)");
        assert_eq!(file_system("", Path::new("/")), "unknown");
    }

    #[test]
    fn stolen_time_is_the_eighth_field() {
        let time = processor_time("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1").expect("a line");
        assert_eq!((time.all, time.idle, time.steal), (36, 9, 8));
        assert!(processor_time("cpu  1 2\n").is_err());
    }
}
