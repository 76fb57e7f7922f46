//! The subresource `scale` of a ProgressDB, as its definition has it: what an autoscaler and `kubectl scale` read and write.

use serde_json::{Value, json};

use super::super::{
    object::{Refusal, not_found, refuse},
    store::Store,
};
use super::{Call, write};

/// Answers a request for the scale of a resource.
pub(super) fn answer(store: &mut Store, call: &Call) -> Result<Value, Refusal> {
    let key = call.key();
    if call.method.as_str() == "GET" {
        let object = store.get(&key).ok_or_else(|| not_found(&key))?;
        if object["spec"]["replicas"].is_null() {
            let message = "Internal error occurred: the spec replicas field \".spec.replicas\" does not exist";
            return Err(refuse(500, "InternalError", message));
        }
        return Ok(scale_of(object));
    }
    // Whichever way it is written, only this counts of it.
    let body = json!({ "spec": { "replicas": call.body["spec"]["replicas"] } });
    let written = Call {
        method: call.method.clone(),
        kind: call.kind,
        namespace: call.namespace.clone(),
        name: call.name.clone(),
        subresource: None,
        query: call.query.clone(),
        content_type: call.content_type.clone(),
        metadata_only: false,
        body,
    };
    write::merge(store, &written).map(|object| scale_of(&object))
}

fn scale_of(object: &Value) -> Value {
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": object["metadata"],
        "spec": { "replicas": object["spec"]["replicas"] },
        "status": { "replicas": object["status"]["replicas"].as_i64().unwrap_or(0), "selector": object["status"]["selector"] },
    })
}
