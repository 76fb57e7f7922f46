//! Between stores in memory: what is the same on every engine, and what no data directory can show.

use std::io::BufReader;
use std::path::Path;

use super::export::Exporting;
use super::import::Importing;
use super::*;
use crate::config::{Config, Flags, Sources, load};
use crate::db::{Caller, NewMessage, WriteOptions};
use crate::format::{Formats, Identity};
use crate::keys::{Counter, Key, Partition, StoreRow};
use crate::model::{Incarnation, MessageContent, ThreadContent, UserId};
use crate::moving::{Reader, Target};
use crate::rows::{CounterValue, EVERY_FORMAT, ImportProgress, Row as _};
use crate::serve::open::database_settings;
use crate::store::memory::Memory;
use crate::store::{Engine, Store};

const ID: [u8; 16] = [7; 16];

fn config(directory: &Path) -> Config {
    let flags = Flags { db: Some(directory.join("db")), ..Flags::default() };
    load(&Sources { directory: directory.to_owned(), flags, ..Sources::default() })
        .config
        .expect("a valid configuration")
}

fn home(incarnation: u64) -> Home {
    let identity = Identity { database_id: ID, incarnation: Incarnation(incarnation) };
    Home::Shared { keyspace: "memory".to_owned(), identity }
}

fn engine(memory: &Memory) -> Engine {
    Engine::of(Store::Memory(memory.clone()))
}

/// A database with these threads of one message each.
async fn filled(config: &Config, titles: &[&str]) -> Memory {
    let (memory, settings) = (Memory::default(), database_settings(config));
    let identity = home(1).identity();
    let db = Db::open(Store::Memory(memory.clone()), identity, &Formats::CURRENT, settings, None);
    let (db, caller) = (db.await.expect("opens"), Caller { user: UserId::parse("ann").expect("an id") });
    for title in titles {
        let content = ThreadContent { title: (*title).to_owned(), slug: None, metadata: None };
        let thread = db.create_thread(&caller, content, WriteOptions::default()).await.expect("created").key;
        let body = serde_json::value::to_raw_value(title).expect("JSON");
        let content = MessageContent { body, role: None, reply_to: None, metadata: None };
        let message = NewMessage { content, parent: None };
        db.create_message(&caller, thread, message, WriteOptions::default()).await.expect("created");
    }
    memory
}

async fn export(memory: &Memory, config: &Config, file: &Path, resume: bool) -> Result<Exported, MoveError> {
    let (home, engine, progress, formats) = (home(1), engine(memory), Progress::default(), &Formats::CURRENT);
    let side = Side { home: &home, engine: &engine, config, formats, progress: &progress, next: "" };
    let db = side.open_database(Whole::Yes).await?;
    Exporting { side, db, target: Target::File(file.to_owned()) }.run(resume).await
}

async fn import(memory: &Memory, config: &Config, file: &Path) -> Result<Imported, MoveError> {
    let (home, engine, progress, formats) = (home(2), engine(memory), Progress::default(), &Formats::CURRENT);
    let side = Side { home: &home, engine: &engine, config, formats, progress: &progress, next: "" };
    let mut reader = Reader::open(BufReader::new(std::fs::File::open(file).expect("there")), file)?;
    let importing = Importing { side, crypt: None };
    let begun = importing.begin(reader.header()).await?;
    importing.run(begun, &mut reader).await
}

#[tokio::test]
async fn a_database_moves_to_an_engine_of_another_order_and_back() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let file = |name| directory.path().join(name);
    let source = filled(&config, &["a", "b", "c"]).await;
    let there = export(&source, &config, &file("there"), false).await.unwrap();
    let other = Memory::reversed();
    let imported = import(&other, &config, &file("there")).await.unwrap();
    assert_eq!((imported.outcome, imported.resumed, imported.incarnation), (Outcome::Ok, false, Incarnation(2)));
    assert_eq!(imported.digest, there.trailer.digest);
    let back = export(&other, &config, &file("back"), false).await.unwrap();
    assert_eq!(back.trailer, there.trailer);
    let rows = |name| {
        let text = std::fs::read_to_string(file(name)).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("{\"key\""));
        rows.filter_map(|line| line.split(",\"sum\"").next()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (mut there, mut back) = (rows("there"), rows("back"));
    assert_ne!(there, back, "each lists its partitions in its own order");
    there.sort();
    back.sort();
    assert_eq!(there, back);
    assert_eq!(import(&other, &config, &file("there")).await.unwrap().outcome, Outcome::Noop);
}

#[tokio::test]
async fn a_store_that_a_server_has_is_neither_exported_nor_imported_into() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let source = filled(&config, &["a"]).await;
    let (file, half) = (directory.path().join("x"), directory.path().join("half"));
    export(&source, &config, &file, false).await.unwrap();
    // One that started while the rows were read.
    source.serve_after(0);
    let refused = export(&source, &config, &half, false).await.unwrap_err();
    let said = "1 servers run on this store: stop them first";
    assert_eq!((refused.exit_code(), refused.to_string().as_str()), (75, said));
    let begun = std::fs::read_to_string(&half).unwrap_or_default();
    assert!(!begun.contains("\"rows\""), "an export without its last line");
    let target = Memory::default();
    target.serve_after(0);
    let refused = import(&target, &config, &file).await.unwrap_err();
    assert_eq!((refused.exit_code(), target.rows().len()), (75, 0));
    // One that started before it could see the row of the import: it goes on, and nothing is put beside it.
    target.serve_after(1);
    let refused = import(&target, &config, &file).await.unwrap_err();
    assert_eq!((refused.exit_code(), target.rows().len()), (75, 1));
}

/// No count of client writes tells of what jobs of a server do.
#[tokio::test]
async fn an_export_of_two_moments_is_not_ended() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let source = filled(&config, &["a", "b"]).await;
    let file = directory.path().join("x");
    export(&source, &config, &file, false).await.unwrap();
    let whole = std::fs::read(&file).unwrap();
    let cut = || std::fs::write(&file, &whole[..whole.len() * 9 / 10]).unwrap();
    cut();
    let resumed = export(&source, &config, &file, true).await.unwrap();
    assert_eq!((resumed.outcome, resumed.resumed), (Outcome::Ok, true));
    assert_eq!(std::fs::read(&file).unwrap(), whole, "the same file, to the byte");
    cut();
    let (first, _) = source.rows().into_iter().find(|(key, _)| key[0] == b'T').unwrap();
    source.plant(first, vec![1]);
    // Its value is none of a head, and only the comparison reads it.
    let (home, engine, progress, formats) = (home(1), engine(&source), Progress::default(), &Formats::CURRENT);
    let side = Side { home: &home, engine: &engine, config: &config, formats, progress: &progress, next: "" };
    let exporting = Exporting { side, db: None, target: Target::File(file.clone()) };
    let refused = exporting.run(true).await.unwrap_err();
    assert!(matches!(refused, MoveError::Changed { .. }), "{refused}");
    assert_eq!(refused.exit_code(), 6);
}

#[tokio::test]
async fn an_export_that_a_server_wrote_beside_is_not_ended() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let source = filled(&config, &["a"]).await;
    let file = directory.path().join("x");
    let sequence = Key::Store(StoreRow::Counter(Counter::Sequence)).encode();
    let one_more = CounterValue(CounterValue::decode(&source.rows()[&sequence]).unwrap().0 + 1);
    source.visit(move |store| store.plant(sequence, one_more.encode(EVERY_FORMAT)));
    let refused = export(&source, &config, &file, false).await.unwrap_err();
    assert!(matches!(refused, MoveError::Changed { .. }), "{refused}");
    let begun = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(!begun.contains("\"rows\""), "an export without its last line");
}

#[tokio::test]
async fn a_store_that_lost_a_row_on_the_way_is_no_import() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let file = directory.path().join("x");
    export(&filled(&config, &["a"]).await, &config, &file, false).await.unwrap();
    let (target, lost) = (Memory::default(), Memory::default());
    import(&target, &config, &file).await.unwrap();
    // The row of an import that is almost through, and no thread.
    let import_row = Key::Store(StoreRow::Import).encode();
    let last = Partition::decode(target.rows().keys().rfind(|key| key[0] == b'U').unwrap());
    let position = last.map(|partition| partition.encode());
    let export = Reader::open(BufReader::new(std::fs::File::open(&file).unwrap()), &file).unwrap().header().id;
    let progress = ImportProgress { database_id: ID, export, position };
    let rows = target.rows().into_iter().filter(|(key, _)| key[0] != b'T');
    rows.for_each(|(key, value)| lost.plant(key, value));
    lost.plant(import_row, progress.encode(EVERY_FORMAT));
    let refused = import(&lost, &config, &file).await.unwrap_err();
    assert!(matches!(&refused, MoveError::Differs { .. }) && refused.exit_code() == 7, "{refused}");
    assert_eq!(import(&lost, &config, &file).await.unwrap().outcome, Outcome::Ok, "the next run begins anew");
    assert_eq!(lost.rows().len(), target.rows().len());
}
