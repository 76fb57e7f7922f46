//! A user's minute, as a probe user: the first answer that is not what it has to be fails the gate.
//!
//! | Step | Demands |
//! |---|---|
//! | sign user | a signature of this user by a key of the Secret, which a browser may call with; left out where none is configured |
//! | create thread | a key, and a thread of it with this title and author |
//! | post message | a key |
//! | list messages | this message alone, byte for byte; the thread is in the user's list |
//! | read message | the same bytes |
//! | edit message | the new bytes |
//! | delete message | it is gone, from the list too |
//! | delete thread | a receipt, and it is gone, from the list too |
//! | list threads | a list; in place of all from `create thread` on, where nothing is to be written |

mod steps;

use std::time::Duration;

use aws_lc_rs::rand;
use kube::Client as Cluster;
use tokio::sync::oneshot;

use self::steps::Step;
use super::{
    GateResult, Target, Verdict,
    client::Client,
    keys::Keys,
    registry::unless,
    user::{PREFIX, Trouble, User},
};
use crate::gate::shortened;

/// Who it is, behind [`PREFIX`].
const WHO: &str = "gate";
/// The longest that an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A smoke test in the middle.
struct Smoke {
    user: User,
    keys: Keys,
    /// Tells this test from all others: in the title of its thread and in its messages.
    mark: String,
    thread: Option<String>,
    message: String,
}

/// Takes the steps, and removes what they made; `None` if it was stopped.
pub(super) async fn run(
    cluster: &Cluster,
    target: &Target,
    read_only: bool,
    stopped: &mut oneshot::Receiver<()>,
) -> Option<GateResult> {
    let mut smoke = match unless(stopped, Smoke::new(cluster, target, read_only)).await? {
        Ok(smoke) => smoke,
        Err(why) => return Some(GateResult::nothing("every step", &why)),
    };
    let steps = smoke.steps(read_only);
    let mut result = unless(stopped, smoke.take_all(&steps)).await;
    let removed = smoke.user.clean_up(smoke.thread.as_deref()).await;
    if let (Some(result), Err(trouble)) = (&mut result, removed) {
        result.why = shortened(&format!("{}; a thread may be left: {trouble}", result.why));
    }
    result
}

impl Smoke {
    async fn new(cluster: &Cluster, target: &Target, read_only: bool) -> Result<Self, String> {
        let keys = Keys::read(cluster, target).await?;
        let id = format!("{PREFIX}{WHO}");
        let headers = if read_only { keys.reading(&id, target) } else { keys.writing(&id, target) }?;
        let mut mark = [0; 8];
        rand::fill(&mut mark).map_err(|_| "the system gives no random bytes".to_owned())?;
        Ok(Self {
            user: User::new(Client::new(target.api.to_string(), LIMIT), id, headers),
            keys,
            mark: hex::encode(mark),
            thread: None,
            message: String::new(),
        })
    }

    fn steps(&self, read_only: bool) -> Vec<Step> {
        let rest = if read_only { &Step::READING[..] } else { &Step::WRITING };
        let signs = self.keys.backend.is_some() && !self.keys.signing.is_empty();
        signs.then_some(Step::SignUser).into_iter().chain(rest.iter().copied()).collect()
    }

    async fn take_all(&mut self, steps: &[Step]) -> GateResult {
        let result = |verdict, taken: usize, why: &str| {
            let value = format!("{taken} of {} steps", steps.len());
            GateResult::new(verdict, &value, &format!("{} steps", steps.len()), taken as i64, why)
        };
        for (taken, step) in steps.iter().enumerate() {
            if let Err(trouble) = self.take(*step).await {
                return result(Verdict::Failed, taken, &format!("{}: {trouble}", step.name()));
            }
        }
        result(Verdict::Passed, steps.len(), "")
    }

    async fn take(&mut self, step: Step) -> Result<(), Trouble> {
        match step {
            Step::SignUser => self.sign_user().await,
            Step::CreateThread => self.create_thread().await,
            Step::PostMessage => self.post_message().await,
            Step::ListMessages => self.list_messages().await,
            Step::ReadMessage => self.read_message(&self.first_body()).await,
            Step::EditMessage => self.edit_message().await,
            Step::DeleteMessage => self.delete_message().await,
            Step::DeleteThread => self.delete_thread().await,
            Step::ListThreads => self.user.threads().await.map(drop),
        }
    }
}
