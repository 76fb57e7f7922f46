//! Pages: the query parameters that ask for one, and the object that describes the one given.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;

use super::error::Error;
use super::request::Query;
use crate::db::RowPage;
use crate::model::{Cursor, InvalidKey, Page};

/// The most that one page may hold on one side of its cursor.
pub(super) const MAX_LIMIT: usize = 1000;
/// The limit of frontend lists when the client names none.
pub(super) const FRONTEND_LIMIT: usize = 50;
/// The limit of admin lists when the client names none.
pub(super) const ADMIN_LIMIT: usize = 100;

/// The page that a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageRequest<K> {
    pub(super) cursor: Cursor<K>,
    pub(super) limit: usize,
    /// `sort_by=updated_ts`.
    pub(super) by_update: bool,
}

impl<K: FromStr<Err = InvalidKey>> PageRequest<K> {
    /// Reads `before`, `after`, `anchor`, `sort_by` and `limit`, checked in this order.
    pub(super) fn parse(query: Query<'_>, default_limit: usize) -> Result<Self, Error> {
        let before = parameter(query, "before")?;
        let after = parameter(query, "after")?;
        let anchor = parameter(query, "anchor")?;
        if [&before, &after, &anchor].into_iter().flatten().count() > 1 {
            return Err(invalid("only one of anchor, before, after can be specified"));
        }
        let by_update = match parameter(query, "sort_by")?.as_deref() {
            None | Some("created_ts") => false,
            Some("updated_ts") => true,
            Some(_) => return Err(invalid("sort_by must be 'created_ts' or 'updated_ts'")),
        };
        let limit = limit(query, default_limit)?;
        let key = |text: &str| text.parse::<K>().map_err(|why| invalid(why.to_string()));
        let cursor = match (before, after, anchor) {
            (Some(text), _, _) => Cursor::Before(key(&text)?),
            (_, Some(text), _) => Cursor::After(key(&text)?),
            (_, _, Some(text)) => Cursor::Anchor(key(&text)?),
            (None, None, None) => Cursor::Newest,
        };
        Ok(Self { cursor, limit, by_update })
    }
}

/// A parameter that was given a value. The Python client sends `None` for what its caller left out.
pub(super) fn parameter<'q>(query: Query<'q>, name: &'static str) -> Result<Option<Cow<'q, str>>, Error> {
    Ok(query.get(name)?.filter(|value| !value.is_empty() && value != "None"))
}

/// The limit, 1 to [`MAX_LIMIT`].
pub(super) fn limit(query: Query<'_>, default: usize) -> Result<usize, Error> {
    let Some(text) = query.get("limit")?.filter(|text| text != "None") else { return Ok(default) };
    let digits = text.strip_prefix('-').unwrap_or(&text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid("limit must be at least 1"));
    }
    let value = digits.trim_start_matches('0');
    match value.parse::<usize>() {
        _ if value.is_empty() => Err(invalid("limit must be at least 1")),
        _ if text.starts_with('-') => Err(invalid("limit cannot be negative")),
        Ok(limit) if limit <= MAX_LIMIT => Ok(limit),
        _ => Err(invalid("limit cannot exceed 1000")),
    }
}

pub(super) fn invalid(why: impl Into<Cow<'static, str>>) -> Error {
    Error::InvalidPagination(why.into())
}

/// Where a page stands in its list.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Pagination {
    /// Key of the first item; empty if the page is. Goes into `before` when `has_before`.
    before_anchor: String,
    /// Key of the last item; empty if the page is. Goes into `after` when `has_after`.
    pub(super) after_anchor: String,
    /// Something stands in front of the first item.
    has_before: bool,
    /// Something stands behind the last item.
    has_after: bool,
    /// Items on this page.
    count: usize,
    /// Items on all pages.
    total: u64,
}

impl Pagination {
    /// Describes `page`, whose items are named by `key`.
    pub(super) fn of<T, K: Display>(page: &Page<T>, key: impl Fn(&T) -> K) -> Self {
        let anchor = |item: Option<&T>| item.map(|item| key(item).to_string()).unwrap_or_default();
        Self {
            before_anchor: anchor(page.items.first()),
            after_anchor: anchor(page.items.last()),
            has_before: page.has_before && !page.items.is_empty(),
            has_after: page.has_after && !page.items.is_empty(),
            count: page.items.len(),
            total: page.total,
        }
    }

    /// Describes a page of row names, whose anchors are the lowest and the highest in key order.
    pub(super) fn of_rows(page: &RowPage) -> Self {
        Self {
            before_anchor: page.lowest.clone().unwrap_or_default(),
            after_anchor: page.highest.clone().unwrap_or_default(),
            has_before: page.has_before,
            has_after: page.has_after,
            count: page.names.len(),
            total: page.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MessageKey, ThreadId};

    fn threads(query: &str) -> Result<PageRequest<ThreadId>, String> {
        PageRequest::parse(Query::new(Some(query)), FRONTEND_LIMIT).map_err(|error| match error {
            Error::InvalidPagination(why) => why.into_owned(),
            other => format!("{other:?}"),
        })
    }

    #[track_caller]
    fn check(query: &str, cursor: Cursor<ThreadId>, limit: usize) {
        assert_eq!(threads(query), Ok(PageRequest { cursor, limit, by_update: false }), "{query}");
    }

    #[test]
    fn what_is_absent_has_a_default() {
        check("", Cursor::Newest, 50);
        check("limit=None&before=None&after=None&anchor=None&sort_by=None", Cursor::Newest, 50);
        check("before=&sort_by=created_ts&unknown=%zz", Cursor::Newest, 50);
    }

    #[test]
    fn cursors_are_decoded() {
        check("before=t%3A12&limit=1", Cursor::Before(ThreadId(12)), 1);
        check("after=t:12&limit=1000", Cursor::After(ThreadId(12)), 1000);
        check("anchor=t%3a12&limit=002", Cursor::Anchor(ThreadId(12)), 2);
        let request = PageRequest::<MessageKey>::parse(Query::new(Some("after=t:1:m:2")), 50).unwrap();
        assert_eq!(request.cursor, Cursor::After(MessageKey { thread: ThreadId(1), ts: 2, seq: None }));
    }

    #[test]
    fn every_refusal_has_its_text_and_its_place() {
        let many = "9".repeat(10_000);
        for (query, why) in [
            ("before=t:1&after=t:2&sort_by=x&limit=0", "only one of anchor, before, after can be specified"),
            ("sort_by=title&limit=0", "sort_by must be 'created_ts' or 'updated_ts'"),
            ("limit=-1&before=x", "limit cannot be negative"),
            ("limit=0", "limit must be at least 1"),
            ("limit=-0", "limit must be at least 1"),
            ("limit=", "limit must be at least 1"),
            ("limit=ten", "limit must be at least 1"),
            ("limit=NaN", "limit must be at least 1"),
            ("limit=1001", "limit cannot exceed 1000"),
            (&format!("limit={many}"), "limit cannot exceed 1000"),
            ("before=t:1:m:2", "expected thread key, got message"),
            ("before=NaN", "invalid thread key format: want t:<timestamp>"),
        ] {
            assert_eq!(threads(query), Err(why.to_owned()), "{query}");
        }
    }

    #[test]
    fn an_empty_page_has_no_anchors_and_no_flags() {
        let page = Page::<ThreadId> { items: vec![], has_before: true, has_after: true, total: 7 };
        let empty = Pagination {
            before_anchor: String::new(),
            after_anchor: String::new(),
            has_before: false,
            has_after: false,
            count: 0,
            total: 7,
        };
        assert_eq!(Pagination::of(&page, |id| *id), empty);
    }

    #[test]
    fn anchors_are_the_first_and_the_last_item() {
        let page = Page { items: vec![ThreadId(3), ThreadId(2)], has_before: false, has_after: true, total: 9 };
        let got = Pagination::of(&page, |id| *id);
        assert_eq!((got.before_anchor.as_str(), got.after_anchor.as_str()), ("t:3", "t:2"));
    }
}
