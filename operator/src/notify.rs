//! Tells others of an upgrade, at the URL of `spec.upgrade.notify`: `POST` of a JSON object.
//!
//! What is told was written into the status before, so each news is told at most once, whatever becomes of this process. A
//! reconcile starts a task and goes on. After a bounded number of tries an Event of the resource says that nobody heard.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Uri,
    body::Bytes,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use hyper_util::{client::legacy::Client as HttpClient, rt::TokioExecutor};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Config, ResourceExt, client::ConfigExt};
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{
    apply::Writer,
    crd::{Announcement, Notify, ProgressDB, UpgradeStatus},
    error::chain,
    telemetry,
};

/// So often each news is posted.
const TRIES: u32 = 5;
/// How long one try may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The time before the second try; it doubles with each.
const PAUSE: Duration = Duration::from_secs(2);
/// So many are posted at one time.
const AT_ONCE: usize = 4;
/// The longest answer that is read, in bytes. What it says is not looked at.
const LONGEST: usize = 64 * 1024;

/// Tells others of upgrades.
pub struct Notifier {
    writer: Writer,
    turns: Arc<Semaphore>,
    pause: Duration,
}

/// One news.
struct News {
    resource: ProgressDB,
    notify: Notify,
    id: String,
    event: Announcement,
    body: Value,
    at: Timestamp,
}

/// Why nobody heard.
enum Failure {
    /// Another try may help.
    Passing(String),
    /// It would be the same.
    Lasting(String),
}

impl Notifier {
    /// Tells, and says by this when nobody hears.
    pub fn new(writer: Writer) -> Self {
        Self { writer, turns: Arc::new(Semaphore::new(AT_ONCE)), pause: PAUSE }
    }

    /// The same with another time before the second try.
    pub fn pausing(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Starts to tell this of an upgrade of a resource. Must be called within a runtime.
    pub fn tell(&self, resource: &ProgressDB, record: &UpgradeStatus, event: Announcement, now: Timestamp) {
        let Some(notify) = resource.spec.upgrade.notify.clone() else { return };
        let (id, body) = (record.id.clone(), body(resource, record, event, now));
        let news = News { resource: resource.clone(), notify, id, event, body, at: now };
        let (writer, turns, pause) = (self.writer.clone(), Arc::clone(&self.turns), self.pause);
        tokio::spawn(async move {
            let Ok(_turn) = turns.acquire_owned().await else { return };
            let heard = news.post_until_heard(&writer, pause).await;
            telemetry::record_notification(heard.is_ok());
            let Err(why) = heard else { return };
            let (resource, what) = (news.resource.name_any(), format!("{:?}", news.event));
            tracing::warn!(event = "notification.failed", resource, upgrade = news.id, what, why, "nobody was told");
            let told = writer.tell_unheard(&news.resource.metadata, (&news.id, &what), &why, news.at).await;
            if let Err(error) = told {
                tracing::warn!(event = "notification.untold", resource, error = chain(&error), "no Event says so");
            }
        });
    }
}

/// What is posted.
fn body(resource: &ProgressDB, record: &UpgradeStatus, event: Announcement, now: Timestamp) -> Value {
    let held = record.hold.as_ref().map(|hold| match &hold.next_command {
        Some(command) => format!("{}; type: {command}", hold.message),
        None => hold.message.clone(),
    });
    json!({
        "resource": resource.name_any(),
        "namespace": resource.namespace().unwrap_or_default(),
        "id": record.id,
        "from": record.from.image,
        "to": record.to.image,
        "event": event,
        "message": held.or_else(|| record.message.clone()).unwrap_or_default(),
        "at": now,
    })
}

impl News {
    async fn post_until_heard(&self, writer: &Writer, mut pause: Duration) -> Result<(), String> {
        let mut number = 1;
        loop {
            let tried = async {
                let secret = self.secret(writer).await?;
                timeout(LIMIT, self.post(secret))
                    .await
                    .map_err(|_| Failure::Passing(format!("no answer in {LIMIT:?}")))?
            };
            match tried.await {
                Ok(()) => return Ok(()),
                Err(Failure::Lasting(why)) => return Err(why),
                Err(Failure::Passing(why)) if number == TRIES => return Err(format!("{why}, {TRIES} times")),
                Err(Failure::Passing(_)) => {}
            }
            sleep(pause).await;
            (number, pause) = (number + 1, pause * 2);
        }
    }

    /// The Secret as it is now, if one is named.
    async fn secret(&self, writer: &Writer) -> Result<Option<Secret>, Failure> {
        let Some(name) = &self.notify.token_secret_name else { return Ok(None) };
        let namespace = self.resource.namespace().unwrap_or_default();
        let secrets: Api<Secret> = Api::namespaced(writer.client.clone(), &namespace);
        match secrets.get_opt(name).await {
            Ok(Some(secret)) => Ok(Some(secret)),
            Ok(None) => Err(Failure::Passing(format!("there is no Secret {name}: make it with the entry token"))),
            Err(error) => Err(Failure::Passing(chain(&error))),
        }
    }

    async fn post(&self, secret: Option<Secret>) -> Result<(), Failure> {
        let lasting = |why: String| Failure::Lasting(why);
        let entry =
            |name: &str| secret.as_ref().and_then(|secret| secret.data.as_ref()?.get(name)).map(|entry| &entry.0);
        let uri: Uri = self.notify.url.parse().map_err(|error| lasting(format!("the URL cannot be read: {error}")))?;
        let mut config = Config::new(uri.clone());
        if let Some(pem) = entry("ca.crt") {
            config.root_cert = Some(certificates(pem).ok_or_else(|| lasting("ca.crt is no certificate".into()))?);
        }
        let connector = config.rustls_https_connector().map_err(|error| lasting(chain(&error)))?;
        let mut request = Request::post(uri).header(CONTENT_TYPE, "application/json");
        match (entry("token"), &self.notify.token_secret_name) {
            (Some(token), _) => {
                let bearer = format!("Bearer {}", String::from_utf8_lossy(token).trim());
                let header = HeaderValue::from_str(&bearer).map_err(|_| lasting("the token is no text".into()))?;
                request = request.header(AUTHORIZATION, header);
            }
            (None, Some(name)) if entry("ca.crt").is_none() => {
                return Err(Failure::Passing(format!("the Secret {name} has no entry token")));
            }
            (None, _) => {}
        }
        let request = request.body(Full::new(Bytes::from(self.body.to_string())));
        let request = request.map_err(|error| lasting(format!("the URL cannot be asked: {error}")))?;
        let client = HttpClient::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        let answer = client.request(request).await.map_err(|error| Failure::Passing(chain(&error)))?;
        let status = answer.status();
        // Read to its end, so that the other side sees no connection that breaks.
        let _ = Limited::new(answer.into_body(), LONGEST).collect().await;
        match status.as_u16() {
            200..300 => Ok(()),
            408 | 425 | 429 | 500.. => Err(Failure::Passing(format!("{} answers {status}", self.notify.url))),
            _ => Err(lasting(format!("{} answers {status}", self.notify.url))),
        }
    }
}

/// The certificates of a PEM file, as DER; `None` if there is none.
fn certificates(pem: &[u8]) -> Option<Vec<Vec<u8>>> {
    let text = String::from_utf8_lossy(pem);
    let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let der = |block: &str| {
        let (base64, _) = block.split_once("-----END CERTIFICATE-----")?;
        let base64: String = base64.split_whitespace().collect();
        Some(serde_json::from_value::<ByteString>(json!(base64)).ok()?.0)
    };
    blocks.map(der).collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
}
