//! Reads and changes a tree of values by dotted path, keeping the origins in step.

use serde_json::{Map, Value};

use super::provenance::{Origin, Provenance, join};

/// The node at `path`; list elements by their index.
pub(super) fn get<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|part| !part.is_empty()).try_fold(tree, |node, part| match node {
        Value::Object(map) => map.get(part),
        Value::Array(list) => list.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Merges `incoming` into the node at `path`: maps key by key, everything else replaced.
pub(super) fn merge(
    target: &mut Value,
    provenance: &mut Provenance,
    path: &str,
    incoming: &Value,
    origin: &dyn Fn(&str) -> Origin,
) {
    let (Value::Object(map), Value::Object(entries)) = (&mut *target, incoming) else {
        *target = incoming.clone();
        provenance.forget(path);
        mark(provenance, path, incoming, origin);
        return;
    };
    for (key, value) in entries {
        let path = join(path, key);
        if let Some(inner) = map.get_mut(key) {
            merge(inner, provenance, &path, value, origin);
        } else {
            map.insert(key.clone(), value.clone());
            mark(provenance, &path, value, origin);
        }
    }
}

/// Notes the origin of `value` and of everything in it.
fn mark(provenance: &mut Provenance, path: &str, value: &Value, origin: &dyn Fn(&str) -> Origin) {
    provenance.set(path, origin(path));
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                mark(provenance, &join(path, key), inner, origin);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                mark(provenance, &join(path, &index.to_string()), inner, origin);
            }
        }
        _ => {}
    }
}

/// The parent of `path` that is neither a map, nor a list that has the index, nor null; then `path` cannot be set.
pub(super) fn blocking_parent(tree: &Value, path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('.').collect();
    let mut node = tree;
    for (depth, part) in parts.iter().enumerate() {
        node = match node {
            Value::Object(map) => map.get(*part)?,
            Value::Array(list) => match part.parse::<usize>().ok().and_then(|index| list.get(index)) {
                Some(inner) => inner,
                None => return Some(parts[..depth].join(".")),
            },
            Value::Null => return None,
            _ => return Some(parts[..depth].join(".")),
        };
    }
    None
}

/// Replaces the node at `path`, making maps on the way; [`blocking_parent`] must have found nothing in the way.
pub(super) fn set(tree: &mut Value, provenance: &mut Provenance, path: &str, value: Value, origin: &Origin) {
    let mut node = tree;
    for part in path.split('.') {
        if node.is_null() {
            *node = Value::Object(Map::new());
        }
        node = match node {
            Value::Object(map) => map.entry(part.to_owned()).or_insert(Value::Null),
            Value::Array(list) => match part.parse::<usize>().ok().and_then(|index| list.get_mut(index)) {
                Some(inner) => inner,
                None => return,
            },
            _ => return,
        };
    }
    provenance.forget(path);
    mark(provenance, path, &value, &|_| origin.clone());
    *node = value;
}

/// Removes the node at `path`. The elements after a removed list element move up, so the whole list gets `origin`.
pub(super) fn remove(tree: &mut Value, provenance: &mut Provenance, path: &str, origin: &Origin) {
    let (parent, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut node = tree;
    for part in parent.split('.').filter(|part| !part.is_empty()) {
        node = match node {
            Value::Object(map) => match map.get_mut(part) {
                Some(inner) => inner,
                None => return,
            },
            Value::Array(list) => match part.parse::<usize>().ok().and_then(|index| list.get_mut(index)) {
                Some(inner) => inner,
                None => return,
            },
            _ => return,
        };
    }
    match node {
        Value::Object(map) => {
            map.shift_remove(last);
            provenance.forget(path);
        }
        Value::Array(list) => {
            if let Some(index) = last.parse::<usize>().ok().filter(|index| *index < list.len()) {
                list.remove(index);
                provenance.forget(parent);
                let whole = node.clone();
                mark(provenance, parent, &whole, &|_| origin.clone());
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn from(text: &str) -> Origin {
        Origin::Derived(text.into())
    }

    #[test]
    fn maps_are_merged_and_all_else_is_replaced_with_its_origin() {
        let mut provenance = Provenance::default();
        let mut tree = json!({});
        merge(&mut tree, &mut provenance, "", &json!({"a": {"b": 1, "c": [1, 2, 3]}, "d": null}), &|_| from("first"));
        merge(&mut tree, &mut provenance, "", &json!({"a": {"c": [9]}, "d": {"e": 5}}), &|_| from("second"));
        assert_eq!(tree, json!({"a": {"b": 1, "c": [9]}, "d": {"e": 5}}));
        assert_eq!(provenance.origin("a.b"), Some(&from("first")));
        assert_eq!(provenance.origin("a.c.0"), Some(&from("second")));
        assert_eq!(provenance.origin("d.e"), Some(&from("second")));
        assert!(!provenance.iter().any(|(path, _)| path == "a.c.2"), "an origin of an element that is gone");
    }

    #[test]
    fn elements_of_lists_are_reached_by_index() {
        let mut provenance = Provenance::default();
        let mut tree = json!({"cases": [{"n": 1}, {"n": 2}]});
        set(&mut tree, &mut provenance, "cases.1.n", json!(7), &from("x"));
        assert_eq!(get(&tree, "cases.1.n"), Some(&json!(7)));
        assert_eq!(blocking_parent(&tree, "cases.2.n"), Some("cases".to_owned()));
        assert_eq!(blocking_parent(&tree, "cases.1.n.m"), Some("cases.1.n".to_owned()));
        assert_eq!(blocking_parent(&tree, "other.n"), None);
        remove(&mut tree, &mut provenance, "cases.0", &from("y"));
        assert_eq!(tree, json!({"cases": [{"n": 7}]}));
        assert_eq!(provenance.origin("cases.0.n"), Some(&from("y")));
    }
}
