//! Ownership of fields: server-side apply as the API server does it, for the lists and maps that our objects have.
//!
//! A field is a path of steps. Maps are merged key by key, lists by their merge keys or as sets, and everything else is
//! replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The value under this name.
    Field(String),
    /// The item of a list with these merge keys, as JSON.
    Item(String),
    /// The element of a set, as JSON.
    Element(String),
}

/// Where a field is.
pub type Path = Vec<Step>;

/// The fields of each manager; an updating and an applying manager of one name are two.
pub type Managers = BTreeMap<String, BTreeSet<Path>>;

enum List {
    Keyed(&'static [(&'static str, Option<&'static str>)]),
    Set,
    Atomic,
}

fn list_at(path: &[Step]) -> List {
    let Some(Step::Field(name)) = path.last() else { return List::Atomic };
    let in_container = path.iter().any(|step| matches!(step, Step::Item(_)));
    match name.as_str() {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => List::Keyed(&[("name", None)]),
        "volumeMounts" => List::Keyed(&[("mountPath", None)]),
        "conditions" => List::Keyed(&[("type", None)]),
        "ownerReferences" => List::Keyed(&[("uid", None)]),
        "ports" if in_container => List::Keyed(&[("containerPort", None), ("protocol", Some("TCP"))]),
        "ports" if path.len() == 2 => List::Keyed(&[("port", None), ("protocol", Some("TCP"))]),
        "finalizers" => List::Set,
        _ => List::Atomic,
    }
}

fn is_atomic_map(path: &[Step]) -> bool {
    const NAMES: [&str; 6] =
        ["selector", "podSelector", "namespaceSelector", "labelSelector", "nodeSelector", "dataSource"];
    matches!(path.last(), Some(Step::Field(name)) if NAMES.contains(&name.as_str()))
}

fn item_step(item: &Value, keys: &[(&str, Option<&str>)]) -> Step {
    let keys: Map<String, Value> = keys
        .iter()
        .map(|(key, default)| {
            let value = item.get(key).cloned().or_else(|| default.map(|value| json!(value)));
            ((*key).to_owned(), value.unwrap_or(Value::Null))
        })
        .collect();
    Step::Item(Value::Object(keys).to_string())
}

fn join(path: &[Step], step: Step) -> Path {
    let mut path = path.to_vec();
    path.push(step);
    path
}

/// Every field of `value` that somebody can own.
pub fn leaves(value: &Value) -> BTreeSet<Path> {
    let mut found = BTreeSet::new();
    collect(value, &[], &mut found);
    found
}

fn collect(value: &Value, path: &[Step], found: &mut BTreeSet<Path>) {
    match (value, list_at(path)) {
        (Value::Object(map), _) if !map.is_empty() && !is_atomic_map(path) => {
            map.iter().for_each(|(name, value)| collect(value, &join(path, Step::Field(name.clone())), found));
        }
        (Value::Array(items), List::Keyed(keys)) => {
            for item in items {
                let path = join(path, item_step(item, keys));
                collect(item, &path, found);
                found.insert(path);
            }
        }
        (Value::Array(items), List::Set) => {
            found.extend(items.iter().map(|item| join(path, Step::Element(item.to_string()))));
        }
        _ => {
            found.insert(path.to_vec());
        }
    }
}

fn position(items: &[Value], step: &Step, path: &[Step]) -> Option<usize> {
    match (step, list_at(path)) {
        (Step::Item(_), List::Keyed(keys)) => items.iter().position(|item| item_step(item, keys) == *step),
        (Step::Element(text), _) => items.iter().position(|item| *item.to_string() == **text),
        _ => None,
    }
}

/// The value at `path`.
pub fn get<'a>(root: &'a Value, path: &[Step]) -> Option<&'a Value> {
    let mut value = root;
    for (depth, step) in path.iter().enumerate() {
        value = match (step, value) {
            (Step::Field(name), Value::Object(map)) => map.get(name)?,
            (_, Value::Array(items)) => &items[position(items, step, &path[..depth])?],
            _ => return None,
        };
    }
    Some(value)
}

/// Writes `new` at `path` and makes what is missing on the way.
pub fn set(root: &mut Value, path: &[Step], new: &Value) {
    let mut value = root;
    for (depth, step) in path.iter().enumerate() {
        value = match step {
            Step::Field(name) => {
                if !value.is_object() {
                    *value = json!({});
                }
                value.as_object_mut().unwrap().entry(name.clone()).or_insert(Value::Null)
            }
            Step::Item(text) | Step::Element(text) => {
                if !value.is_array() {
                    *value = json!([]);
                }
                let items = value.as_array_mut().unwrap();
                let index = position(items, step, &path[..depth]).unwrap_or_else(|| {
                    items.push(serde_json::from_str(text).unwrap());
                    items.len() - 1
                });
                &mut items[index]
            }
        };
    }
    // An item of a keyed list owns its existence; its fields are leaves of their own. So does an empty map.
    let is_empty = new.as_object().is_some_and(Map::is_empty) && value.is_object() && !is_atomic_map(path);
    if !matches!(path.last(), Some(Step::Item(_))) && !is_empty {
        *value = new.clone();
    }
}

/// Removes what is at `path`.
pub fn remove(root: &mut Value, path: &[Step]) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut value = root;
    for (depth, step) in parents.iter().enumerate() {
        let next = match (step, value) {
            (Step::Field(name), Value::Object(map)) => map.get_mut(name),
            (_, Value::Array(items)) => position(items, step, &path[..depth]).map(|index| &mut items[index]),
            _ => None,
        };
        let Some(next) = next else { return };
        value = next;
    }
    match (last, value) {
        (Step::Field(name), Value::Object(map)) => {
            map.remove(name);
        }
        (_, Value::Array(items)) => {
            if let Some(index) = position(items, last, parents) {
                items.remove(index);
            }
        }
        _ => {}
    }
}

/// Removes the maps around a field that was removed, if nothing is left in them that anybody owns.
fn remove_empty(root: &mut Value, path: &[Step], managers: &Managers) {
    for depth in (1..path.len()).rev() {
        let parent = &path[..depth];
        let is_empty = get(root, parent).and_then(Value::as_object).is_some_and(Map::is_empty);
        let is_owned = managers.values().any(|fields| fields.iter().any(|field| field.starts_with(parent)));
        if !matches!(parent.last(), Some(Step::Field(_))) || !is_empty || is_owned {
            return;
        }
        remove(root, parent);
    }
}

/// What `manager` gets by applying `applied` over `live`; else the fields that others own and their owners.
pub fn apply(
    live: &Value,
    applied: &Value,
    managers: &Managers,
    manager: &str,
    force: bool,
) -> Result<(Value, Managers), Vec<String>> {
    let wanted = leaves(applied);
    let mut managers = managers.clone();
    let differs = |path: &Path| !matches!(path.last(), Some(Step::Item(_))) && get(live, path) != get(applied, path);
    let conflicts: Vec<String> = managers
        .iter()
        .filter(|(name, _)| *name != manager)
        .flat_map(|(name, theirs)| {
            theirs.intersection(&wanted).filter(|path| differs(path)).map(move |path| format!("{name}: {path:?}"))
        })
        .collect();
    if !conflicts.is_empty() && !force {
        return Err(conflicts);
    }
    for (name, theirs) in &mut managers {
        if name != manager {
            theirs.retain(|path| !(wanted.contains(path) && differs(path)));
        }
    }
    let before = managers.insert(manager.to_owned(), wanted.clone()).unwrap_or_default();
    let mut result = live.clone();
    // The longest paths first: the fields of an item are removed before the item.
    for path in before.difference(&wanted).collect::<Vec<_>>().into_iter().rev() {
        if !managers.values().any(|fields| fields.iter().any(|field| field.starts_with(path))) {
            remove(&mut result, path);
            remove_empty(&mut result, path, &managers);
        }
    }
    for path in &wanted {
        set(&mut result, path, get(applied, path).expect("a leaf of what is applied"));
    }
    managers.retain(|_, fields| !fields.is_empty());
    order(&mut result, applied, &[]);
    Ok((result, managers))
}

/// Gives lists with keys the order in which they were applied; what others put there comes after.
fn order(result: &mut Value, applied: &Value, path: &[Step]) {
    match (result, applied, list_at(path)) {
        (Value::Object(result), Value::Object(applied), _) => {
            for (name, value) in result.iter_mut() {
                let Some(applied) = applied.get(name) else { continue };
                order(value, applied, &join(path, Step::Field(name.clone())));
            }
        }
        (Value::Array(result), Value::Array(applied), List::Keyed(keys)) => {
            let steps: Vec<Step> = applied.iter().map(|item| item_step(item, keys)).collect();
            let place = |item: &Value| steps.iter().position(|step| *step == item_step(item, keys));
            result.sort_by_key(|item| place(item).unwrap_or(usize::MAX));
            for item in result {
                let Some(index) = place(item) else { continue };
                order(item, &applied[index], &join(path, steps[index].clone()));
            }
        }
        _ => {}
    }
}

/// The managers as `metadata.managedFields` shows them.
pub fn managed_fields(managers: &Managers, api_version: &str) -> Value {
    let shown = managers.iter().map(|(name, fields)| {
        let mut tree = json!({});
        for path in fields {
            path.iter().fold(&mut tree, |tree, step| {
                let name = match step {
                    Step::Field(name) => format!("f:{name}"),
                    Step::Item(keys) => format!("k:{keys}"),
                    Step::Element(value) => format!("v:{value}"),
                };
                tree.as_object_mut().expect("only maps are made").entry(name).or_insert_with(|| json!({}))
            });
        }
        let mut parts = name.split('/');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        json!({
            "manager": part(), "operation": part(), "subresource": part(), "apiVersion": api_version,
            "time": "2030-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": tree,
        })
    });
    shown.collect()
}

/// Gives `manager` what it changed between two versions of an object, and drops fields that are gone.
pub fn record_update(managers: &mut Managers, manager: &str, old: &Value, new: &Value) {
    let (before, now) = (leaves(old), leaves(new));
    let changed: BTreeSet<Path> =
        now.iter().filter(|path| get(old, path) != get(new, path) || get(old, path).is_none()).cloned().collect();
    for (name, fields) in managers.iter_mut() {
        // What is in neither is of another endpoint.
        let is_gone = |path: &Path| before.contains(path) && !now.contains(path);
        fields.retain(|path| !is_gone(path) && (name == manager || !changed.contains(path)));
    }
    managers.entry(manager.to_owned()).or_default().extend(changed);
    managers.retain(|_, fields| !fields.is_empty());
}
