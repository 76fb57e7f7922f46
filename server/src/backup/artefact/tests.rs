//! Artefacts that are not what they seem. Each is refused, and nothing is written outside of the directory that was named.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use aws_lc_rs::digest::digest;
use tempfile::TempDir;

use super::super::create::create;
use super::super::manifest::tests::manifest;
use super::super::zstd::{Decoder, Encoder};
use super::super::{Description, Source, Stamp, Target};
use super::*;

const STAMP: Stamp = Stamp { id: [1; 16], created_ns: 1_767_323_045_000_000_000 };
const FORMS: [Form; 2] = [Form::Tar, Form::Dir];

/// A store of three files, one of which does not compress.
fn source(directory: &Path) -> Source {
    let store = directory.join("source");
    fs::create_dir(&store).unwrap();
    let mut noise = vec![0; 300_000];
    aws_lc_rs::rand::fill(&mut noise).unwrap();
    fs::write(store.join("000012.sst"), noise).unwrap();
    fs::write(store.join("CURRENT"), "MANIFEST-000005\n").unwrap();
    fs::write(store.join("MANIFEST-000005"), "").unwrap();
    let manifest = manifest(Vec::new());
    let description = Description {
        database_id: manifest.header.database_id,
        incarnation: manifest.incarnation,
        version: manifest.header.version,
        store_format: 1,
        engine: manifest.engine,
        sequence: manifest.sequence,
        counts: manifest.counts,
        kms: manifest.kms,
        settings: manifest.settings,
    };
    Source::of_checkpoint(&store, description).unwrap()
}

/// A backup of it.
fn backup(form: Form) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let target = Target { path: directory.path().join("b.pdbk"), form };
    let made = create(&source(directory.path()), &target, &STAMP, &Progress::default()).unwrap();
    assert_eq!(made.path, target.path);
    (directory, target.path)
}

fn open(path: &Path) -> Result<Artefact, Refused> {
    Artefact::open(path, &Formats::CURRENT)
}

/// What opening, checking and unpacking say of it; none of them may differ.
#[track_caller]
fn refusal(path: &Path) -> String {
    let into = tempfile::tempdir().unwrap();
    let into = into.path().join("store-2");
    let checked = open(path).and_then(|artefact| artefact.check(&Progress::default()));
    let unpacked = open(path).and_then(|artefact| artefact.unpack(&into, &Progress::default()));
    let (checked, unpacked) = (checked.unwrap_err(), unpacked.unwrap_err());
    assert_eq!(checked.to_string(), unpacked.to_string());
    assert_eq!(checked.exit_code(), 7, "{checked}");
    checked.to_string()
}

#[track_caller]
fn check_refused(path: &Path, what: &str) {
    let said = refusal(path);
    assert!(said.contains(what) && said.contains(&path.display().to_string()), "{said}");
}

#[test]
fn what_is_written_is_read_back_and_unpacked() {
    for form in FORMS {
        let (directory, path) = backup(form);
        let artefact = open(&path).unwrap();
        let manifest = artefact.check(&Progress::default()).unwrap();
        assert_eq!((artefact.form(), artefact.header()), (form, &manifest.header));
        assert_eq!((manifest.header.id, manifest.header.created.as_str()), ([1; 16], "2026-01-02T03:04:05Z"));
        let names: Vec<_> = manifest.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(names, ["000012.sst", "CURRENT", "MANIFEST-000005"]);

        let into = directory.path().join("store-2");
        assert_eq!(artefact.unpack(&into, &Progress::default()).unwrap(), manifest);
        for file in &manifest.files {
            let content = fs::read(into.join(&file.path)).unwrap();
            assert!(content == fs::read(directory.path().join("source").join(&file.path)).unwrap(), "{}", file.path);
            let mode = fs::metadata(into.join(&file.path)).unwrap().permissions().mode();
            assert_eq!((mode & 0o777, digest(&SHA256, &content).as_ref()), (0o600, file.sha256.as_slice()));
        }
        let again = artefact.unpack(&into, &Progress::default()).unwrap_err();
        assert_eq!(again.exit_code(), 1, "it unpacks into a directory of its own only: {again}");
    }
}

#[test]
fn what_is_no_artefact_is_refused_by_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.pdbk");
    assert_eq!(open(&path).unwrap_err().exit_code(), 5);
    let mut foreign = Encoder::new(Vec::new()).unwrap();
    foreign.write_all(b"a log file of something else").unwrap();
    for (content, what) in [
        (Vec::new(), "it is empty"),
        (b"\x28\xb5".to_vec(), "it does not begin as one"),
        (b"SQLite format 3\0".to_vec(), "it does not begin as one"),
        (vec![0; 100_000], "it does not begin as one"),
        (foreign.finish().unwrap(), "it holds no archive"),
        (packed(&[file("database.sql", b"")]), "it is an archive of something else"),
    ] {
        fs::write(&path, content).unwrap();
        check_refused(&path, what);
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    check_refused(&path, "it is a directory without progressdb-backup.json");
    fs::write(path.join(HEADER), r#"{"name":"other-backup","layout":1}"#).unwrap();
    check_refused(&path, "belongs to something else");
    fs::write(path.join(HEADER), "{").unwrap();
    check_refused(&path, "progressdb-backup.json is unreadable");
}

#[test]
fn an_artefact_that_was_cut_off_anywhere_is_refused() {
    let (_directory, path) = backup(Form::Tar);
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(997).chain(whole.len() - 300..whole.len()) {
        fs::write(&path, &whole[..at]).unwrap();
        refusal(&path);
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    check_refused(&path, "store/000012.sst cannot be read: it ends in the middle");
    fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
    check_refused(&path, "its end cannot be read");
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_and_the_file_and_its_digest_are_named() {
    let (_directory, path) = backup(Form::Tar);
    let whole = fs::read(&path).unwrap();
    let untouched = open(&path).unwrap().check(&Progress::default()).unwrap();
    for at in (0..whole.len()).step_by(991).chain(0..600).chain(whole.len() - 600..whole.len()) {
        let mut altered = whole.clone();
        altered[at] ^= 0x10;
        fs::write(&path, altered).unwrap();
        // A bit of the stream's own headers may mean nothing: then everything is still there.
        match open(&path).and_then(|artefact| artefact.check(&Progress::default())) {
            Ok(manifest) => assert_eq!(manifest, untouched, "byte {at}"),
            Err(error) => assert_eq!(error.exit_code(), 7, "byte {at}: {error}"),
        }
    }
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    fs::write(&path, altered).unwrap();
    check_refused(&path, "the SHA-256 of store/000012.sst is ");
}

#[test]
fn a_directory_in_which_anything_was_changed_is_refused() {
    let change = |what: &str, change: fn(&Path)| {
        let (_directory, path) = backup(Form::Dir);
        change(&path);
        check_refused(&path, what);
    };
    change("the SHA-256 of store/CURRENT is ", |at| fs::write(at.join("store/CURRENT"), "MANIFEST-000006\n").unwrap());
    change("store/CURRENT has 3 bytes, and its manifest says 16", |at| {
        fs::write(at.join("store/CURRENT"), "abc").unwrap()
    });
    change("store/CURRENT is missing", |at| fs::remove_file(at.join("store/CURRENT")).unwrap());
    change("store/000099.sst is not in its manifest", |at| fs::write(at.join("store/000099.sst"), "").unwrap());
    change("manifest.json: its SHA-256 is ", |at| {
        let text = fs::read_to_string(at.join(MANIFEST)).unwrap();
        fs::write(at.join(MANIFEST), text.replace("\"sequence\":7", "\"sequence\":8")).unwrap();
    });
    change("manifest.json is missing", |at| fs::remove_file(at.join(MANIFEST)).unwrap());
    change("it has an entry \"notes\"", |at| fs::write(at.join("notes"), "").unwrap());
    change("store/CURRENT is not a plain file", |at| {
        fs::remove_file(at.join("store/CURRENT")).unwrap();
        symlink("/etc/hostname", at.join("store/CURRENT")).unwrap();
    });
    change("it has an entry \"store\"", |at| {
        fs::rename(at.join("store"), at.with_file_name("elsewhere")).unwrap();
        symlink("../elsewhere", at.join("store")).unwrap();
    });
    change("progressdb-backup.json says something else", |at| {
        let text = fs::read_to_string(at.join(HEADER)).unwrap();
        fs::write(at.join(HEADER), text.replace("\"0.3.0\"", "\"0.2.0\"")).unwrap();
    });
}

/// An entry of an archive that only somebody else would write.
struct Entry {
    name: Vec<u8>,
    kind: ::tar::EntryType,
    link: &'static str,
    content: Vec<u8>,
    /// What its header says.
    bytes: u64,
}

fn file(name: &str, content: &[u8]) -> Entry {
    let (name, content, bytes) = (name.as_bytes().to_vec(), content.to_vec(), content.len() as u64);
    Entry { name, kind: ::tar::EntryType::Regular, link: "", content, bytes }
}

fn packed(entries: &[Entry]) -> Vec<u8> {
    let mut out = Encoder::new(Vec::new()).unwrap();
    for Entry { name, kind, link, content, bytes } in entries {
        let mut header = ::tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(*kind);
        header.set_size(*bytes);
        header.set_mode(0o4777);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        out.write_all(header.as_bytes()).unwrap();
        out.write_all(content).unwrap();
        out.write_all(&vec![0; content.len().next_multiple_of(512) - content.len()]).unwrap();
    }
    out.write_all(&[0; 1024]).unwrap();
    out.finish().unwrap()
}

fn named(path: &str, content: &[u8]) -> FileEntry {
    let sha256 = digest(&SHA256, content).as_ref().try_into().unwrap();
    FileEntry { path: path.to_owned(), bytes: content.len() as u64, sha256 }
}

/// An archive of the header, these entries, and a manifest that names these files.
fn forged(entries: Vec<Entry>, files: Vec<FileEntry>) -> Vec<u8> {
    let manifest = manifest(files);
    let mut all = vec![file(HEADER, &manifest.header.to_bytes())];
    all.extend(entries);
    all.push(file(MANIFEST, &manifest.to_bytes()));
    packed(&all)
}

#[track_caller]
fn check_forged(archive: &[u8], what: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.pdbk");
    fs::write(&path, archive).unwrap();
    check_refused(&path, what);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "something was written beside it");
}

#[test]
fn a_forged_archive_that_is_right_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.pdbk");
    fs::write(&path, forged(vec![file("store/CURRENT", b"a")], vec![named("CURRENT", b"a")])).unwrap();
    open(&path).unwrap().check(&Progress::default()).unwrap();
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in [
        "../escaped",
        "store/../../escaped",
        "/tmp/progressdb-escaped",
        "store/",
        "store/.",
        "store//etc/passwd",
        "store/a/b",
        "escaped",
        "./store/CURRENT",
        "store/CURRENT ",
    ] {
        let entry = file(name, b"a");
        check_forged(&forged(vec![entry], vec![named(name.trim_start_matches("store/"), b"a")]), "which no backup has");
    }
    assert!(!Path::new("/tmp/progressdb-escaped").exists());
}

#[test]
fn entries_that_are_no_plain_files_are_refused() {
    use ::tar::EntryType as Kind;
    for (kind, link) in [
        (Kind::Symlink, "/etc/passwd"),
        (Kind::Link, "store/CURRENT"),
        (Kind::Directory, ""),
        (Kind::Fifo, ""),
        (Kind::Char, ""),
        (Kind::GNUSparse, ""),
        (Kind::GNULongName, ""),
        (Kind::XHeader, ""),
        (Kind::XGlobalHeader, ""),
    ] {
        let entry = Entry { kind, link, ..file("store/CURRENT", b"") };
        check_forged(&forged(vec![entry], vec![named("CURRENT", b"")]), "is not a plain file");
    }
}

#[test]
fn what_the_manifest_does_not_name_once_is_refused() {
    let current = || file("store/CURRENT", b"a");
    let wanted = || named("CURRENT", b"a");
    check_forged(&forged(vec![current(), current()], vec![wanted()]), "store/CURRENT is there twice");
    check_forged(&forged(vec![current()], vec![wanted(), wanted()]), "manifest.json names CURRENT twice");
    check_forged(&forged(vec![current()], Vec::new()), "store/CURRENT is not in its manifest");
    check_forged(&forged(Vec::new(), vec![wanted()]), "store/CURRENT is missing");
    check_forged(&forged(vec![current()], vec![named("CURRENT", b"b")]), "the SHA-256 of store/CURRENT is ");
}

#[test]
fn a_length_that_lies_is_refused() {
    let long = |bytes| vec![Entry { bytes, ..file("store/CURRENT", b"abc") }];
    let files = || vec![named("CURRENT", b"abc")];
    check_forged(&forged(long(2), files()), "store/CURRENT has 2 bytes, and its manifest says 3");
    check_forged(&forged(long(600), files()), "what follows store/CURRENT is no entry of an archive");
    for bytes in [10_000, 1 << 40, u64::MAX >> 2] {
        check_forged(&forged(long(bytes), files()), "store/CURRENT");
    }
    let header = manifest(Vec::new()).header.to_bytes();
    check_forged(&packed(&[Entry { bytes: 1 << 40, ..file(HEADER, &header) }]), "progressdb-backup.json is too long");
    let huge = Entry { bytes: 1 << 40, ..file(MANIFEST, b"") };
    check_forged(&packed(&[file(HEADER, &header), huge]), "manifest.json is too long");
    let files = vec![FileEntry { bytes: 4, ..named("CURRENT", b"abc") }];
    check_forged(
        &forged(vec![file("store/CURRENT", b"abc")], files),
        "store/CURRENT has 3 bytes, and its manifest says 4",
    );
}

#[test]
fn the_order_of_entries_is_fixed() {
    let manifest = manifest(Vec::new());
    let (header, last) = (|| file(HEADER, &manifest.header.to_bytes()), || file(MANIFEST, &manifest.to_bytes()));
    check_forged(&packed(&[header()]), "it ends without manifest.json");
    check_forged(&packed(&[header(), last(), file("store/CURRENT", b"")]), "follows the manifest");
    check_forged(&packed(&[header(), last(), last()]), "follows the manifest");
    check_forged(&packed(&[header(), header(), last()]), "which no backup has");
    let other = Header { database_id: [9; 16], ..manifest.header.clone() };
    let altered = packed(&[file(HEADER, &other.to_bytes()), last()]);
    check_forged(&altered, "progressdb-backup.json says something else than manifest.json");
    let mut behind = packed(&[header(), last()]);
    let mut more = Encoder::new(Vec::new()).unwrap();
    more.write_all(b"hidden").unwrap();
    behind.extend(more.finish().unwrap());
    check_forged(&behind, "something follows manifest.json");
}

#[test]
fn a_newer_layout_or_store_is_refused_and_both_versions_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.pdbk");
    let check = |header: &Header, said: &str| {
        fs::write(&path, packed(&[file(HEADER, &header.to_bytes())])).unwrap();
        let error = open(&path).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string()), (78, format!("{} {said}", path.display())));
    };
    let header = manifest(Vec::new()).header;
    let newer = Header { layout: 2, version: "0.9.0".to_owned(), ..header.clone() };
    check(&newer, "has backup layout 2, this version reads up to 1: use version 0.9.0 or a newer one");
    let newer = Header { store_format: 7, version: "0.9.0".to_owned(), ..header };
    check(&newer, "was made by version 0.9.0: the store has format 7, this version reads 1 to 1");
}

#[test]
fn the_archive_is_one_that_other_programs_read() {
    let (_directory, path) = backup(Form::Tar);
    let mut archive = ::tar::Archive::new(Decoder::new(File::open(path).unwrap()));
    let names: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    let wanted = [HEADER, "store/000012.sst", "store/CURRENT", "store/MANIFEST-000005", MANIFEST];
    assert_eq!(names, wanted.map(PathBuf::from));
}
