//! A power cut: what a device holds at one moment, and nothing that was still in memory.
//!
//! The store lies on an ext4 in an image, the image on an xfs with reflinks. A reflink of the image under load is an
//! atomic copy of the device: whatever ext4 had sent there by then, and nothing of the page cache above it. The copy is
//! mounted and opened elsewhere: what was acknowledged before the copy began must be there, once and in order. That the
//! test can see a loss is shown by the same run with syncs that do nothing.
//!
//! Takes root for the mounts; elsewhere skipped by name.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use testing::disk::Disk;
use testing::http::Connection;
use testing::{Random, Server, Setup, User, message, messages, temporary_directory, variable, wait_until};

const WRITERS: usize = 4;
const GIB: u64 = 1 << 30;
/// Beside each text, so that logs are followed by others and memtables are flushed during the test.
const PADDING_BYTES: usize = 4_000;

/// The device that loses its power, and what is around it. Dropped from the top: the inner file system goes first.
struct Machine {
    device: Disk,
    host: Disk,
    _directory: tempfile::TempDir,
}

impl Machine {
    fn new(test: &str) -> Option<Self> {
        let directory = temporary_directory();
        let mkfs = ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"];
        let host = Disk::make(test, directory.path(), 2 * GIB, &mkfs, "rw")?;
        // ext4 writes by itself every five seconds, which is no merit of ours; here it does so rarely.
        let device = Disk::make(test, &host.at.join("device"), GIB, &["mkfs.ext4", "-q", "-F"], "commit=600")?;
        Some(Self { device, host, _directory: directory })
    }

    fn setup(&self) -> Setup {
        let setup = Setup::with_db(&self.device.at.join("database"));
        setup.set("storage.reserve", "16MiB").set("storage.memory", "16MiB")
    }

    /// Cuts the power and puts what is left on another machine.
    fn cut(&self) -> Remains {
        let copy = self.host.at.join("copy");
        let mut reflink = Command::new("cp");
        let reflinked = reflink.arg("--reflink=always").args([&self.device.image, &copy]).output().unwrap();
        assert!(reflinked.status.success(), "{reflink:?}: {}", String::from_utf8_lossy(&reflinked.stderr));
        Remains { disk: Disk::mount(&copy, &self.host.at.join("elsewhere"), "rw").unwrap() }
    }
}

struct Remains {
    disk: Disk,
}

impl Drop for Remains {
    fn drop(&mut self) {
        // The copy gives its space back; the mount still holds it until the field is dropped.
        let _ = fs::remove_file(&self.disk.image);
    }
}

/// One writer's thread. The n-th write leaves the n-th state, so a count says all that must be there.
struct Tape {
    thread: String,
    begun: AtomicUsize,
    acknowledged: AtomicUsize,
}

/// The texts of the messages that live after `writes` writes.
fn state(writes: usize) -> Vec<String> {
    let mut texts: Vec<Option<String>> = Vec::new();
    for n in 0..writes {
        match n % 4 {
            0 | 1 => texts.push(Some(format!("{n}"))),
            2 => *texts.last_mut().unwrap() = Some(format!("edited by {n}")),
            _ => {
                let deleted = texts.len() - 2;
                texts[deleted] = None;
            }
        }
    }
    texts.into_iter().flatten().collect()
}

fn body(text: &str) -> Value {
    json!({ "body": { "id": text, "padding": "x".repeat(PADDING_BYTES) } })
}

impl Tape {
    fn new(user: &User, title: &str) -> Self {
        let thread = user.create_thread(title);
        Self { thread, begun: AtomicUsize::new(0), acknowledged: AtomicUsize::new(0) }
    }

    fn write_until(&self, server: &Server, stop: &AtomicBool) {
        let mut connection = Connection::open(server.addr).unwrap();
        let mut keys: Vec<String> = Vec::new();
        let user = server.user("writer");
        for n in 0.. {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let (method, target, text) = match n % 4 {
                0 | 1 => ("POST", messages(&self.thread), format!("{n}")),
                2 => ("PUT", message(&self.thread, &keys[keys.len() - 1]), format!("edited by {n}")),
                _ => ("DELETE", message(&self.thread, &keys[keys.len() - 2]), String::new()),
            };
            self.begun.store(n + 1, Ordering::SeqCst);
            let request = user.request(method, &target).header("Idempotency-Key", format!("{}-{n}", self.thread));
            let key = connection.send(&request.json(&body(&text))).unwrap().written();
            if n % 4 < 2 {
                keys.push(key);
            }
            self.acknowledged.store(n + 1, Ordering::SeqCst);
        }
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// What `server` holds is the state after one of `writes` writes; otherwise what is wrong with it.
    fn check(&self, server: &Server, writes: std::ops::RangeInclusive<usize>) -> Result<(), String> {
        let user = server.user("writer");
        let mut found = Vec::new();
        let mut target = format!("{}?limit=1000&after={}:m:0", messages(&self.thread), self.thread);
        loop {
            let answer = user.get(&target);
            if answer.status != 200 {
                return Err(format!("{}: {answer}", self.thread));
            }
            let page = answer.json();
            let texts = page["messages"].as_array().unwrap().iter();
            found.extend(texts.map(|message| message["body"]["id"].as_str().unwrap_or_default().to_owned()));
            if page["pagination"]["has_after"] != json!(true) {
                break;
            }
            let after = page["pagination"]["after_anchor"].as_str().unwrap();
            target = format!("{}?limit=1000&after={after}", messages(&self.thread));
        }
        if writes.clone().any(|count| state(count) == found) {
            return Ok(());
        }
        let tail = &found[found.len().saturating_sub(3)..];
        let want = state(*writes.start());
        let want = &want[want.len().saturating_sub(3)..];
        Err(format!("{}: {writes:?} writes, {} found: ends with {tail:?}, wanted {want:?}", self.thread, found.len()))
    }

    /// A write that was acknowledged before the cut is not done twice when it is sent again.
    fn send_again(&self, server: &Server, acknowledged: usize) -> Result<(), String> {
        let Some(n) = (0..acknowledged).rev().find(|n| n % 4 < 2) else { return Ok(()) };
        let user = server.user("writer");
        let request = user.request("POST", &messages(&self.thread));
        let request = request.header("Idempotency-Key", format!("{}-{n}", self.thread));
        let answer = user.send(&request.json(&body(&format!("{n}"))));
        match answer.header("idempotency-replayed") {
            Some("true") => Ok(()),
            _ => Err(format!("{}: write {n} was done again: {answer}", self.thread)),
        }
    }
}

/// Writes to tapes of its own, cuts at a random moment, and judges what is left. `kept`: those of earlier rounds.
fn round(
    machine: &Machine,
    setup: &Setup,
    server: &Server,
    random: &mut Random,
    kept: &[Tape],
) -> Result<Vec<Tape>, String> {
    let user = server.user("writer");
    let tapes: Vec<Tape> = (0..WRITERS).map(|n| Tape::new(&user, &format!("writer {n}"))).collect();
    let stop = AtomicBool::new(false);
    let moment = 50 + random.below(1_000);
    let (remains, bounds) = std::thread::scope(|scope| {
        for tape in &tapes {
            scope.spawn(|| tape.write_until(server, &stop));
        }
        let total = || tapes.iter().map(Tape::acknowledged).sum::<usize>();
        wait_until("enough is written", || total() >= moment);
        let before: Vec<usize> = tapes.iter().map(Tape::acknowledged).collect();
        let remains = machine.cut();
        let bounds = before.into_iter().zip(&tapes);
        let bounds: Vec<_> = bounds.map(|(before, tape)| before..=tape.begun.load(Ordering::SeqCst)).collect();
        stop.store(true, Ordering::SeqCst);
        (remains, bounds)
    });
    let elsewhere = setup_at(remains.disk.at.join("database"));
    let inspected = elsewhere.run(&["inspect", "--json"]);
    if inspected.code != Some(0) {
        return Err(format!("it does not open: {}", inspected.said()));
    }
    let other = elsewhere.start();
    let old = kept.iter().map(|tape| (tape, tape.acknowledged()..=tape.acknowledged()));
    for (tape, writes) in old.chain(tapes.iter().zip(bounds)) {
        tape.check(&other, writes.clone())?;
        tape.send_again(&other, *writes.start())?;
        tape.check(&other, writes)?;
    }
    other.stop().check_code(0);
    drop(remains);
    // And the machine that kept its power has everything in any case.
    for tape in &tapes {
        tape.check(server, tape.acknowledged()..=tape.acknowledged()).unwrap();
    }
    assert_eq!(setup.db(), machine.device.at.join("database"));
    Ok(tapes)
}

fn setup_at(db: PathBuf) -> Setup {
    Setup::with_db(&db).set("storage.reserve", "16MiB").set("storage.memory", "16MiB")
}

#[test]
fn a_power_cut_under_load_loses_and_doubles_nothing() {
    let Some(machine) = Machine::new("a_power_cut_under_load_loses_and_doubles_nothing") else { return };
    let loops: usize = variable("PROGRESSDB_TORTURE_LOOPS").map_or(4, |text| text.parse().unwrap());
    let mut random = Random::seeded();
    let setup = machine.setup();
    let server = setup.start();
    let mut kept = Vec::new();
    for turn in 0..loops {
        match round(&machine, &setup, &server, &mut random, &kept) {
            Ok(tapes) => kept.extend(tapes),
            Err(loss) => panic!("cut {turn}: {loss}"),
        }
    }
    let writes: usize = kept.iter().map(Tape::acknowledged).sum();
    println!("{loops} power cuts, {writes} writes");
    server.stop().check_code(0);
}

/// Makes every way to sync that libc has do nothing.
const NO_SYNC: &str = "
int fsync(int fd) { return 0; }
int fdatasync(int fd) { return 0; }
int syncfs(int fd) { return 0; }
int msync(void *at, unsigned long length, int flags) { return 0; }
int sync_file_range(int fd, long offset, long length, unsigned flags) { return 0; }
";

#[test]
fn a_power_cut_is_noticed_where_syncs_do_nothing() {
    let name = "a_power_cut_is_noticed_where_syncs_do_nothing";
    let Some(machine) = Machine::new(name) else { return };
    let setup = machine.setup();
    let source = setup.root().join("no-sync.c");
    let library = setup.root().join("no-sync.so");
    fs::write(&source, NO_SYNC).unwrap();
    let mut compile = Command::new("cc");
    let compiled = compile.args(["-shared", "-fPIC", "-w", "-o"]).args([&library, &source]).output().unwrap();
    assert!(compiled.status.success(), "{compile:?}: {}", String::from_utf8_lossy(&compiled.stderr));
    // The database itself is there: only what is written from now on can be lost.
    setup.start().stop().check_code(0);
    rustix::fs::sync();

    let setup = setup.environment("LD_PRELOAD", library.to_str().unwrap());
    let server = setup.start();
    let lost = round(&machine, &setup, &server, &mut Random::seeded(), &[]);
    let loss = lost.map(|tapes| tapes.len()).expect_err("nothing was synced, and nothing was missed");
    println!("noticed: {loss}");
}
