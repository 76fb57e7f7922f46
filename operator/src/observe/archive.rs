//! The resource and the objects of one instance, compressed one by one, in two allocations.
//!
//! An allocation for each object would take more than its bytes do. A thousand instances have twelve thousand objects, and
//! so many small allocations among short-lived ones keep the allocator from reusing or returning the room between them.

use crate::kind::Kind;

/// The resource and the objects of one instance, a few KiB. A change copies the whole.
#[derive(Debug, Default)]
pub(super) struct Archive {
    entries: Box<[Entry]>,
    /// The name and the compressed text of each entry.
    bytes: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Option<Kind>,
    is_listed: bool,
    name: u8,
    compressed: u32,
    /// The length of the text.
    length: u32,
    version: u64,
}

/// The resource or one of the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item<'a> {
    /// `None` is the resource itself.
    pub(super) kind: Option<Kind>,
    pub(super) name: &'a str,
    pub(super) version: u64,
    /// Whether the current list of its kind, or the last one if there is none, has named it.
    pub(super) is_listed: bool,
    pub(super) compressed: &'a [u8],
    /// The length of the text.
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
            let (compressed, after) = after.split_at(entry.compressed as usize);
            rest = after;
            let name = std::str::from_utf8(name).expect("a name was put in");
            let Entry { kind, is_listed, version, length, .. } = *entry;
            Item { kind, name, version, is_listed, compressed, length: length as usize }
        })
    }

    pub(super) fn get(&self, kind: Option<Kind>, name: &str) -> Option<Item<'_>> {
        self.items().find(|item| item.is(kind, name))
    }

    /// Adds an item, or replaces the one of its kind and name.
    pub(super) fn upsert(&mut self, item: Item<'_>) {
        let others = self.items().filter(|known| !known.is(item.kind, item.name));
        *self = Self::of(&others.chain([item]).collect::<Vec<_>>());
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Item<'_>) -> bool) {
        if self.items().all(|item| keep(&item)) {
            return;
        }
        *self = Self::of(&self.items().filter(keep).collect::<Vec<_>>());
    }

    /// Sets whether a list has named this object.
    pub(super) fn set_listed(&mut self, kind: Kind, name: &str, is_listed: bool) {
        let index = self.items().position(|item| item.is(Some(kind), name));
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.is_listed = is_listed;
        }
    }

    /// Notes that a list of this kind begins, which has named nothing yet.
    pub(super) fn begin_list(&mut self, kind: Kind) {
        self.entries.iter_mut().filter(|entry| entry.kind == Some(kind)).for_each(|entry| entry.is_listed = false);
    }

    fn of(items: &[Item<'_>]) -> Self {
        let entry = |item: &Item<'_>| Entry {
            kind: item.kind,
            is_listed: item.is_listed,
            name: item.name.len().try_into().expect("Kubernetes' names have at most 253 characters"),
            compressed: item.compressed.len().try_into().expect("an object has at most a few MiB"),
            length: item.length.try_into().expect("an object has at most a few MiB"),
            version: item.version,
        };
        let mut bytes = Vec::with_capacity(items.iter().map(|item| item.name.len() + item.compressed.len()).sum());
        items.iter().for_each(|item| {
            bytes.extend_from_slice(item.name.as_bytes());
            bytes.extend_from_slice(item.compressed);
        });
        Self { entries: items.iter().map(entry).collect(), bytes: bytes.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item<'a>(kind: Option<Kind>, name: &'a str, text: &'a str) -> Item<'a> {
        Item { kind, name, version: 1, is_listed: false, compressed: text.as_bytes(), length: 2 * text.len() }
    }

    #[test]
    fn an_item_replaces_the_one_of_its_kind_and_name() {
        let mut archive = Archive::default();
        let (resource, service) = (item(None, "", "resource"), item(Some(Kind::Service), "db", "service"));
        let config = item(Some(Kind::ConfigMap), "db", "");
        let other = item(Some(Kind::Service), "db-headless", "other");
        for item in [resource, service, config, other] {
            archive.upsert(item);
        }
        let newer = Item { version: 2, ..item(Some(Kind::Service), "db", "a newer service") };
        archive.upsert(newer);
        assert_eq!(archive.items().collect::<Vec<_>>(), [resource, config, other, newer]);
        assert_eq!(archive.get(Some(Kind::Service), "db"), Some(newer));
        assert_eq!(archive.get(Some(Kind::Pod), "db"), None);
    }

    #[test]
    fn only_items_that_a_list_does_not_name_are_removed() {
        let mut archive = Archive::default();
        let named = Item { is_listed: true, ..item(Some(Kind::Service), "a", "named") };
        let gone = Item { is_listed: true, ..item(Some(Kind::Service), "b", "gone") };
        let other = item(Some(Kind::Pod), "a", "other");
        [named, gone, other].into_iter().for_each(|item| archive.upsert(item));
        archive.begin_list(Kind::Service);
        archive.upsert(named);
        archive.retain(|item| item.kind != Some(Kind::Service) || item.is_listed);
        assert_eq!(archive.items().collect::<Vec<_>>(), [other, named]);
        archive.retain(|_| false);
        assert!(archive.is_empty() && archive.items().next().is_none());
    }
}
