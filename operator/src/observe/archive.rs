//! All that is known of one instance, in two allocations: its resource and its objects, each packed, one after the other.
//!
//! An allocation for each would cost more than what is in it, and a thousand instances have twelve thousand of them, which
//! lie between everything that is soon freed, so that no page of it could be given back.

use crate::kind::Kind;

/// The resource and the objects of one instance. A change writes the whole anew; it has a few KiB.
#[derive(Debug, Default)]
pub(super) struct Archive {
    entries: Box<[Entry]>,
    /// Name and packed text of each entry.
    bytes: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Option<Kind>,
    is_listed: bool,
    name: u8,
    packed: u32,
    length: u32,
    version: u64,
}

/// One of the things in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item<'a> {
    /// `None` is the resource itself.
    pub(super) kind: Option<Kind>,
    pub(super) name: &'a str,
    pub(super) version: u64,
    /// Whether the list that is under way, or the last one, named it.
    pub(super) is_listed: bool,
    pub(super) packed: &'a [u8],
    /// How long the text is.
    pub(super) length: usize,
}

impl Item<'_> {
    pub(super) fn is(&self, kind: Option<Kind>, name: &str) -> bool {
        self.kind == kind && self.name == name
    }
}

impl Archive {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn items(&self) -> impl Iterator<Item = Item<'_>> {
        let mut rest = &*self.bytes;
        self.entries.iter().map(move |entry| {
            let (name, after) = rest.split_at(entry.name.into());
            let (packed, after) = after.split_at(entry.packed as usize);
            rest = after;
            let name = std::str::from_utf8(name).expect("it was text when it was put in");
            let Entry { kind, is_listed, version, length, .. } = *entry;
            Item { kind, name, version, is_listed, packed, length: length as usize }
        })
    }

    pub(super) fn get(&self, kind: Option<Kind>, name: &str) -> Option<Item<'_>> {
        self.items().find(|item| item.is(kind, name))
    }

    /// Puts an item in, in place of the one of its kind and name.
    pub(super) fn put(&mut self, item: Item<'_>) {
        let others = self.items().filter(|known| !known.is(item.kind, item.name));
        *self = Self::of(&others.chain([item]).collect::<Vec<_>>());
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Item<'_>) -> bool) {
        if self.items().all(|item| keep(&item)) {
            return;
        }
        *self = Self::of(&self.items().filter(keep).collect::<Vec<_>>());
    }

    /// Says whether the list of this kind named one of its objects.
    pub(super) fn set_listed(&mut self, kind: Kind, name: &str, is_listed: bool) {
        let index = self.items().position(|item| item.is(Some(kind), name));
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.is_listed = is_listed;
        }
    }

    /// A list of this kind begins: it has named nothing yet.
    pub(super) fn begin_list(&mut self, kind: Kind) {
        self.entries.iter_mut().filter(|entry| entry.kind == Some(kind)).for_each(|entry| entry.is_listed = false);
    }

    fn of(items: &[Item<'_>]) -> Self {
        let entry = |item: &Item<'_>| Entry {
            kind: item.kind,
            is_listed: item.is_listed,
            name: item.name.len().try_into().expect("Kubernetes' names have at most 253 characters"),
            packed: item.packed.len().try_into().expect("an object has at most a few MiB"),
            length: item.length.try_into().expect("an object has at most a few MiB"),
            version: item.version,
        };
        let mut bytes = Vec::with_capacity(items.iter().map(|item| item.name.len() + item.packed.len()).sum());
        items.iter().for_each(|item| {
            bytes.extend_from_slice(item.name.as_bytes());
            bytes.extend_from_slice(item.packed);
        });
        Self { entries: items.iter().map(entry).collect(), bytes: bytes.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item<'a>(kind: Option<Kind>, name: &'a str, text: &'a str) -> Item<'a> {
        Item { kind, name, version: 1, is_listed: false, packed: text.as_bytes(), length: 2 * text.len() }
    }

    #[test]
    fn what_was_put_in_last_is_there() {
        let mut archive = Archive::default();
        let (resource, service) = (item(None, "", "resource"), item(Some(Kind::Service), "db", "service"));
        let config = item(Some(Kind::ConfigMap), "db", "");
        let other = item(Some(Kind::Service), "db-headless", "other");
        for item in [resource, service, config, other] {
            archive.put(item);
        }
        let newer = Item { version: 2, ..item(Some(Kind::Service), "db", "a newer service") };
        archive.put(newer);
        assert_eq!(archive.items().collect::<Vec<_>>(), [resource, config, other, newer]);
        assert_eq!(archive.get(Some(Kind::Service), "db"), Some(newer));
        assert_eq!(archive.get(Some(Kind::Pod), "db"), None);
    }

    #[test]
    fn what_a_list_does_not_name_goes_alone() {
        let mut archive = Archive::default();
        let named = Item { is_listed: true, ..item(Some(Kind::Service), "a", "named") };
        let gone = Item { is_listed: true, ..item(Some(Kind::Service), "b", "gone") };
        let other = item(Some(Kind::Pod), "a", "other");
        [named, gone, other].into_iter().for_each(|item| archive.put(item));
        archive.begin_list(Kind::Service);
        archive.put(named);
        archive.retain(|item| item.kind != Some(Kind::Service) || item.is_listed);
        assert_eq!(archive.items().collect::<Vec<_>>(), [other, named]);
        archive.retain(|_| false);
        assert!(archive.is_empty() && archive.items().next().is_none());
    }
}
