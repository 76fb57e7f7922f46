//! What callers need to be allowed to do, in the words of RBAC.

use std::fmt;

use axum::http::Method;

use super::{kinds, routes::Call, store::Store};

/// One verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// The verb, such as `create`.
    pub verb: &'static str,
    /// The API group; empty for the core.
    pub group: String,
    /// The plural of the kind.
    pub resource: String,
    /// Such as `status`.
    pub subresource: Option<String>,
}

impl fmt::Display for Access {
    /// As a rule of a role would name it: `patch progressdb.io/progressdbs/status`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, group, resource, subresource } = self;
        let group = if group.is_empty() { "core" } else { group };
        write!(formatter, "{verb} {group}/{resource}")?;
        subresource.iter().try_for_each(|name| write!(formatter, "/{name}"))
    }
}

/// What a call needs. One that applies an object that is not there also needs to create it, and one that gives an object
/// an owner whose deletion it blocks needs to update the finalizers of that.
pub(super) fn of(store: &Store, call: &Call) -> Vec<Access> {
    let access = |verb: &'static str, subresource: Option<String>| Access {
        verb,
        group: call.kind.group.to_owned(),
        resource: call.kind.plural.to_owned(),
        subresource,
    };
    let watches = call.parameter("watch").is_some_and(|watch| watch != "false");
    let verb = match (&call.method, &call.name) {
        (&Method::GET, Some(_)) => "get",
        (&Method::GET, None) if watches => "watch",
        (&Method::GET, None) => "list",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, Some(_)) => "delete",
        _ => "deletecollection",
    };
    let mut needed = vec![access(verb, call.subresource.clone())];
    let is_applied = verb == "patch" && call.content_type.starts_with("application/apply-patch");
    if is_applied && call.subresource.is_none() && store.get(&call.key()).is_none() {
        needed.push(access("create", None));
    }
    let owners = call.body["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let blocking = owners.filter(|owner| owner["blockOwnerDeletion"] == true);
    needed.extend(blocking.filter_map(|owner| {
        let kind = kinds::of_reference(owner["apiVersion"].as_str()?, owner["kind"].as_str()?)?;
        let (group, resource) = (kind.group.to_owned(), kind.plural.to_owned());
        Some(Access { verb: "update", group, resource, subresource: Some("finalizers".into()) })
    }));
    needed
}
