//! `spec.storage`: where the data lies. One of two, and for good: a volume of one server, or a cluster of Cassandra that a
//! fleet of servers shares.

use std::borrow::Cow;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::object_name;

/// Where the data lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Choice", into = "Choice")]
pub enum Storage {
    /// One instance with its own volume.
    Embedded(EmbeddedStorage),
    /// A fleet of instances over Cassandra or ScyllaDB.
    Cassandra(CassandraStorage),
}

/// Where the data lies: exactly one of the two.
#[derive(KubeSchema, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.embedded) != has(self.cassandra)")
        .message("name exactly one storage: embedded or cassandra"),
    validation = Rule::new("has(self.embedded) == has(oldSelf.embedded) && has(self.cassandra) == has(oldSelf.cassandra)")
        .message("the data stays where it lies: make another ProgressDB, and move the data with `progressdb export` and `progressdb import`")
)]
struct Choice {
    /// One instance with its own volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    embedded: Option<EmbeddedStorage>,
    /// A fleet: instances that keep nothing themselves, over a cluster of Cassandra or ScyllaDB that you run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cassandra: Option<CassandraStorage>,
}

impl TryFrom<Choice> for Storage {
    type Error = &'static str;

    fn try_from(choice: Choice) -> Result<Self, Self::Error> {
        match (choice.embedded, choice.cassandra) {
            (Some(embedded), None) => Ok(Self::Embedded(embedded)),
            (None, Some(cassandra)) => Ok(Self::Cassandra(cassandra)),
            (None, None) => Err("it names none of what this operator knows"),
            (Some(_), Some(_)) => Err("it names two storages, and the data lies in one"),
        }
    }
}

impl From<Storage> for Choice {
    fn from(storage: Storage) -> Self {
        match storage {
            Storage::Embedded(embedded) => Self { embedded: Some(embedded), cassandra: None },
            Storage::Cassandra(cassandra) => Self { embedded: None, cassandra: Some(cassandra) },
        }
    }
}

impl JsonSchema for Storage {
    fn schema_name() -> Cow<'static, str> {
        "Storage".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Choice::json_schema(generator)
    }
}

impl Storage {
    /// The volume, of one instance.
    pub fn embedded(&self) -> Option<&EmbeddedStorage> {
        match self {
            Self::Embedded(embedded) => Some(embedded),
            Self::Cassandra(_) => None,
        }
    }

    /// The cluster, of a fleet.
    pub fn cassandra(&self) -> Option<&CassandraStorage> {
        match self {
            Self::Embedded(_) => None,
            Self::Cassandra(cassandra) => Some(cassandra),
        }
    }
}

/// One instance with its own volume.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "has(self.storageClassName) == has(oldSelf.storageClassName) \
         && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)"
    ).message("a volume keeps its storage class: make another ProgressDB and move the data")
)]
pub struct EmbeddedStorage {
    /// Size of the volume. It can grow if the storage class allows it, and never shrinks.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
            .message("a size is a quantity above 0, as in 10Gi"),
        validation = Rule::new("!isQuantity(self) || quantity(self).compareTo(quantity('1Pi')) <= 0")
            .message("no driver makes a volume above 1Pi")
    )]
    pub size: String,
    /// Storage class of the volume. Unset: the cluster's default when the volume is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "object_name")]
    pub storage_class_name: Option<String>,
}

/// A cluster of Cassandra or ScyllaDB, which you run and save: the operator makes a keyspace and tables in it, and never
/// removes one.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CassandraStorage {
    /// Nodes that are asked first for all others: a host or host:port each, port 9042 if none is given.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 261), pattern(r"^[A-Za-z0-9._:\[\]-]+$")))]
    pub contact_points: Vec<String>,
    /// The data centre that all servers write in, as `nodetool status` names it.
    #[schemars(length(min = 1, max = 48), pattern(r"^[A-Za-z0-9._-]+$"))]
    pub datacenter: String,
    /// The keyspace with the data.
    #[serde(default = "keyspace")]
    #[schemars(length(min = 1, max = 48), pattern(r"^[a-z][a-z0-9_]*$"))]
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("the data lies in this keyspace: make another ProgressDB, and move the data with `progressdb export` and `progressdb import`")
    )]
    pub keyspace: String,
    /// On how many nodes of the data centre each row lies. It is used when the keyspace is made, and never changes one that is there.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 15))]
    pub replication_factor: i32,
    /// Secret of the type kubernetes.io/basic-auth, with the entries username and password. The server reads it again at each connection, so a changed password needs no restart. Unset: the cluster asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// Secret with the entry ca.crt, and tls.crt and tls.key if the cluster asks its clients for a certificate. A change restarts the pods, one after the other. Unset: connections are not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret_ref: Option<SecretRef>,
}

/// A Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(schema_with = "object_name")]
    pub name: String,
}

fn keyspace() -> String {
    "progressdb".into()
}

fn three() -> i32 {
    3
}
