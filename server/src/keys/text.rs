//! Keys as text, for people and the admin routes. Message and thread keys look as they do to clients.

use std::fmt;
use std::str::FromStr;

use super::{Counter, ExpiryKind, Hash16, Key, StoreRow, ThreadRow, UserRow};
use crate::model::{MessageId, ThreadId};

impl fmt::Display for Hash16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thread(thread, row) => {
                write!(f, "{thread}")?;
                match row {
                    ThreadRow::Head => Ok(()),
                    ThreadRow::Participant(user) => write!(f, ":participant:{user}"),
                    ThreadRow::ReadMarker(user) => write!(f, ":read:{user}"),
                    ThreadRow::Idempotency(hash) => write!(f, ":idempotency:{hash}"),
                    ThreadRow::Object => write!(f, ":object"),
                    ThreadRow::DataKey(generation) => write!(f, ":key:{generation}"),
                    ThreadRow::Message(id) => write!(f, ":m:{}:{:09}", id.ts, id.seq),
                    ThreadRow::Version(id, revision) => write!(f, ":version:{}:{:09}:{revision}", id.ts, id.seq),
                    ThreadRow::Reaction(id, user, reaction) => {
                        write!(f, ":reaction:{}:{:09}:{user}:{reaction}", id.ts, id.seq)
                    }
                    ThreadRow::Reply(parent, child) => {
                        write!(f, ":reply:{}:{:09}:{}:{:09}", parent.ts, parent.seq, child.ts, child.seq)
                    }
                    ThreadRow::Change(revision) => write!(f, ":change:{revision}"),
                    ThreadRow::Deleted(id) => write!(f, ":deleted:{}:{:09}", id.ts, id.seq),
                }
            }
            Self::User(user, row) => {
                write!(f, "u:{user}")?;
                match row {
                    UserRow::LiveThreads => write!(f, ":threads"),
                    UserRow::Created(thread) => write!(f, ":created:{}", thread.0),
                    UserRow::Active { updated, thread } => write!(f, ":active:{updated}:{}", thread.0),
                    UserRow::Idempotency(hash) => write!(f, ":idempotency:{hash}"),
                    UserRow::Wrote(thread) => write!(f, ":wrote:{}", thread.0),
                    UserRow::DataKey(generation) => write!(f, ":key:{generation}"),
                    UserRow::Profile => write!(f, ":profile"),
                    UserRow::Seals => write!(f, ":seals"),
                    UserRow::Receipt(hash) => write!(f, ":receipt:{hash}"),
                }
            }
            Self::Expiry { due, thread, kind } => {
                let kind = match kind {
                    ExpiryKind::Thread => "thread",
                    ExpiryKind::Message => "message",
                    ExpiryKind::ThreadIdempotency => "thread-idempotency",
                    ExpiryKind::UserIdempotency => "user-idempotency",
                    ExpiryKind::Erasure => "erasure",
                    ExpiryKind::Receipt => "receipt",
                };
                write!(f, "x:{due}:{}:{kind}", thread.0)
            }
            Self::Epoch(epoch) => write!(f, "k:{epoch}"),
            Self::Store(row) => match row {
                StoreRow::Format => write!(f, "s:format"),
                StoreRow::Counter(Counter::Threads) => write!(f, "s:threads"),
                StoreRow::Counter(Counter::Messages) => write!(f, "s:messages"),
                StoreRow::Counter(Counter::Sequence) => write!(f, "s:sequence"),
                StoreRow::Counter(Counter::Users) => write!(f, "s:users"),
                StoreRow::HighestTime => write!(f, "s:highest-time"),
                StoreRow::Secret => write!(f, "s:secret"),
                StoreRow::Sealing => write!(f, "s:sealing"),
                StoreRow::Erasures => write!(f, "s:erasures"),
                StoreRow::Migration(number) => write!(f, "s:migration:{number}"),
                StoreRow::Import => write!(f, "s:import"),
            },
        }
    }
}

/// The text is not the readable form of any key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a row")]
pub struct NotAKey;

impl FromStr for Key {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let parts: Vec<&str> = text.split(':').collect();
        let key = match *parts.as_slice() {
            ["t", thread, ref row @ ..] => {
                parse_thread_row(row).zip(number(thread)).map(|(r, t)| Self::Thread(ThreadId(t), r))
            }
            ["u", user, ref row @ ..] => parse_user_row(row).zip(hash(user)).map(|(r, u)| Self::User(u, r)),
            ["x", due, thread, kind] => parse_expiry(due, thread, kind),
            ["k", epoch] => small(epoch).map(Self::Epoch),
            ["s", row] => parse_store_row(row).map(Self::Store),
            ["s", "migration", number] => small(number).map(|number| Self::Store(StoreRow::Migration(number))),
            _ => None,
        };
        // One row has one name: padded numbers and upper-case digits name nothing.
        key.filter(|key| key.to_string() == text).ok_or(NotAKey)
    }
}

fn parse_thread_row(parts: &[&str]) -> Option<ThreadRow> {
    let message = |ts, seq| Some(MessageId { ts: number(ts)?, seq: number(seq)? });
    match *parts {
        [] => Some(ThreadRow::Head),
        ["participant", user] => hash(user).map(ThreadRow::Participant),
        ["read", user] => hash(user).map(ThreadRow::ReadMarker),
        ["reaction", ts, seq, user, reaction] => {
            Some(ThreadRow::Reaction(message(ts, seq)?, hash(user)?, hash(reaction)?))
        }
        ["reply", parent_ts, parent_seq, ts, seq] => {
            Some(ThreadRow::Reply(message(parent_ts, parent_seq)?, message(ts, seq)?))
        }
        ["change", revision] => number(revision).map(ThreadRow::Change),
        ["idempotency", text] => hash(text).map(ThreadRow::Idempotency),
        ["object"] => Some(ThreadRow::Object),
        ["key", generation] => small(generation).map(ThreadRow::DataKey),
        ["m", ts, seq] => message(ts, seq).map(ThreadRow::Message),
        ["version", ts, seq, revision] => Some(ThreadRow::Version(message(ts, seq)?, number(revision)?)),
        ["deleted", ts, seq] => message(ts, seq).map(ThreadRow::Deleted),
        _ => None,
    }
}

fn parse_user_row(parts: &[&str]) -> Option<UserRow> {
    match *parts {
        ["threads"] => Some(UserRow::LiveThreads),
        ["created", thread] => number(thread).map(|t| UserRow::Created(ThreadId(t))),
        ["active", updated, thread] => {
            Some(UserRow::Active { updated: number(updated)?, thread: ThreadId(number(thread)?) })
        }
        ["idempotency", text] => hash(text).map(UserRow::Idempotency),
        ["wrote", thread] => number(thread).map(|t| UserRow::Wrote(ThreadId(t))),
        ["key", generation] => small(generation).map(UserRow::DataKey),
        ["profile"] => Some(UserRow::Profile),
        ["seals"] => Some(UserRow::Seals),
        ["receipt", text] => hash(text).map(UserRow::Receipt),
        _ => None,
    }
}

fn parse_expiry(due: &str, thread: &str, kind: &str) -> Option<Key> {
    let kind = match kind {
        "thread" => ExpiryKind::Thread,
        "message" => ExpiryKind::Message,
        "thread-idempotency" => ExpiryKind::ThreadIdempotency,
        "user-idempotency" => ExpiryKind::UserIdempotency,
        "erasure" => ExpiryKind::Erasure,
        "receipt" => ExpiryKind::Receipt,
        _ => return None,
    };
    Some(Key::Expiry { due: number(due)?, thread: ThreadId(number(thread)?), kind })
}

fn parse_store_row(name: &str) -> Option<StoreRow> {
    match name {
        "format" => Some(StoreRow::Format),
        "threads" => Some(StoreRow::Counter(Counter::Threads)),
        "messages" => Some(StoreRow::Counter(Counter::Messages)),
        "sequence" => Some(StoreRow::Counter(Counter::Sequence)),
        "users" => Some(StoreRow::Counter(Counter::Users)),
        "highest-time" => Some(StoreRow::HighestTime),
        "secret" => Some(StoreRow::Secret),
        "sealing" => Some(StoreRow::Sealing),
        "erasures" => Some(StoreRow::Erasures),
        "import" => Some(StoreRow::Import),
        _ => None,
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn small(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn hash(text: &str) -> Option<Hash16> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(Hash16(bytes))
}
