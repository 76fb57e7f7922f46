//! A process that is killed at any of its changes to the disk: afterwards the old version serves all that there was, or
//! refuses with the command that goes on, and the next version goes on by itself.

use testing::{Setup, kill_at_each_change};

use crate::{Versions, inspect, root};

/// What is left must be the old store, or one that the old version refuses and both ways lead out of.
fn check_left(Versions { old, next }: &Versions, whole: &str, change: &str) {
    let opened = old.run(&["verify", "--digest", "--json"]);
    match opened.code {
        Some(0) => assert!(opened.stdout.contains(whole), "{change}: {}", opened.stdout),
        Some(78) => {
            opened.check_says(&["store format 2 is too new", "progressdb rollback"]);
        }
        _ => panic!("{change}: {}", opened.said()),
    }
    let ended = next.run(&["migrate", "--finalize", "--json"]);
    assert_eq!(ended.code, Some(0), "{change}: {}", ended.said());
    assert_eq!(root(next), whole, "{change}");
    let inspected = inspect(next);
    let checkpoints = inspected["checkpoints"].as_array().unwrap().len();
    assert_eq!((inspected["format"].as_u64(), checkpoints), (Some(2), 1), "{change}");
}

#[test]
fn a_change_of_format_that_is_killed_at_any_change_to_the_disk_loses_nothing() {
    let template = Versions::new().filled(3);
    let whole = root(&template.old);
    let versions = Versions::new();
    let killed = kill_at_each_change(
        "a_change_of_format_that_is_killed_at_any_change_to_the_disk_loses_nothing",
        || {
            versions.copy_from(template.old.db());
            versions.next.command(&["migrate", "--finalize"])
        },
        |change| check_left(&versions, &whole, change),
    );
    println!("{killed:?} kills");
    assert!(killed.is_none_or(|killed| killed > 30), "only {killed:?} kills");
}

#[test]
fn a_way_back_that_is_killed_at_any_change_to_the_disk_leaves_the_new_store_or_the_old() {
    let template = Versions::new().filled(3);
    template.next.run(&["migrate", "--finalize"]).check_code(0);
    let whole = root(&template.next);
    let versions = Versions::new();
    let (mut old, mut new) = (0, 0);
    let serves = |setup: &Setup| setup.run(&["verify", "--digest", "--json"]);
    let killed = kill_at_each_change(
        "a_way_back_that_is_killed_at_any_change_to_the_disk_leaves_the_new_store_or_the_old",
        || {
            versions.copy_from(template.old.db());
            versions.next.command(&["rollback"])
        },
        |change| {
            let left = serves(&versions.old);
            match left.code {
                Some(0) => old += 1,
                Some(78) => new += 1,
                _ => panic!("{change}: {}", left.said()),
            }
            assert_eq!(root(&versions.next), whole, "{change}");
            if left.code == Some(78) {
                versions.next.run(&["rollback"]).check_code(0);
            }
            assert_eq!(root(&versions.old), whole, "{change}");
            versions.old.start().stop().check_code(0);
        },
    );
    println!("{killed:?} kills");
    assert!(killed.is_none_or(|killed| killed > 10), "only {killed:?} kills");
    assert!(killed.is_none() || (old > 0 && new > 0), "{old} behind the rename of the marker, {new} before it");
}
