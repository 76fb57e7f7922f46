//! The rules that the double is held to, on the real API server of KUBECONFIG: `e2e/run` calls it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;

use aws_lc_rs::rand;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use testing::kubernetes::rules;

testing::test_rules!(place);

/// A namespace that is gone when dropped.
struct Own(String);

impl Drop for Own {
    fn drop(&mut self) {
        let _ = Command::new("kubectl").args(["delete", "namespace", &self.0, "--wait=false"]).status();
    }
}

async fn place() -> rules::Place {
    let client = Client::try_default().await.expect("KUBECONFIG names a cluster");
    let mut bytes = [0; 4];
    rand::fill(&mut bytes).unwrap();
    let own = Own(format!("e2e-rules-{}", hex::encode(bytes)));
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(own.0.clone()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    rules::Place {
        objects: Api::namespaced(client.clone(), &own.0),
        claims: Api::namespaced(client, &own.0),
        settle: Box::new(move || {
            // Only holds the namespace: a real cluster settles by itself.
            let _ = &own;
        }),
    }
}
