//! What is asked at each step, and what is demanded of the answers.

use hyper::Method;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{
    super::{
        keys,
        user::{Ack, Said, THREADS, Thread, Trouble},
    },
    Smoke,
};
use crate::probe;

/// A step of the test.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    SignUser,
    CreateThread,
    PostMessage,
    ListMessages,
    ReadMessage,
    EditMessage,
    DeleteMessage,
    DeleteThread,
    ListThreads,
}

impl Step {
    /// All that write, in their order, and those that see what was written.
    pub(super) const WRITING: [Self; 7] = [
        Self::CreateThread,
        Self::PostMessage,
        Self::ListMessages,
        Self::ReadMessage,
        Self::EditMessage,
        Self::DeleteMessage,
        Self::DeleteThread,
    ];
    /// What is done in their place where nothing is to be written.
    pub(super) const READING: [Self; 1] = [Self::ListThreads];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SignUser => "sign user",
            Self::CreateThread => "create thread",
            Self::PostMessage => "post message",
            Self::ListMessages => "list messages",
            Self::ReadMessage => "read message",
            Self::EditMessage => "edit message",
            Self::DeleteMessage => "delete message",
            Self::DeleteThread => "delete thread",
            Self::ListThreads => "list threads",
        }
    }
}

#[derive(Deserialize)]
struct Signed {
    #[serde(rename = "userId")]
    user_id: String,
    signature: String,
}

#[derive(Deserialize)]
struct OneThread {
    thread: Thread,
}

#[derive(Deserialize)]
struct OneMessage {
    message: Message,
}

#[derive(Deserialize)]
struct MessagePage {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    key: String,
    author: String,
    body: Box<RawValue>,
}

impl Smoke {
    pub(super) async fn sign_user(&mut self) -> Result<(), Trouble> {
        let body = json!({ "userId": self.user.id }).to_string();
        let said = self.user.ask(Method::POST, "/backend/v1/sign", body).await?.expect(&[200])?;
        let Signed { user_id, signature } = said.json()?;
        said.check(user_id == self.user.id, || format!("the signature is for user {user_id:?}"))?;
        let is_known = self.keys.signing.iter().any(|key| probe::signature(key, &self.user.id) == signature);
        said.check(is_known, || "no signing key of the Secret makes this signature".to_owned())?;
        let Some(frontend) = &self.keys.frontend else { return Ok(()) };
        let browser = keys::signed(frontend, &self.user.id, &signature);
        let path = format!("{THREADS}?limit=1");
        self.user.ask_with(&browser, Method::GET, &path, "").await?.expect(&[200])?;
        Ok(())
    }

    pub(super) async fn create_thread(&mut self) -> Result<(), Trouble> {
        self.user.remove_left_overs().await?;
        let title = format!("smoke test {}", self.mark);
        let (said, key) = self.user.create_thread(&title).await?;
        said.check(key.starts_with("t:") && is_plain(&key), || format!("{key:?} is not the key of a thread"))?;
        self.thread = Some(key.clone());
        let said = self.user.get(&self.thread_path()).await?;
        let Thread { key: read, title: told, author } = said.json::<OneThread>()?.thread;
        said.check(read == key && told == title && author == self.user.id, || {
            format!("want thread {key}, {title:?}, of {}; got {read}, {told:?}, of {author}", self.user.id)
        })
    }

    pub(super) async fn post_message(&mut self) -> Result<(), Trouble> {
        let (path, body) = (self.messages_path(), message_of(&self.first_body()));
        let said = self.user.ask(Method::POST, &path, body).await?.expect(&[202])?;
        let key = said.json::<Ack>()?.key;
        let of_thread = format!("{}:m:", self.thread.as_deref().unwrap_or_default());
        said.check(key.starts_with(&of_thread) && is_plain(&key), || {
            format!("{key:?} is not the key of a message in this thread")
        })?;
        self.message = key;
        Ok(())
    }

    pub(super) async fn list_messages(&mut self) -> Result<(), Trouble> {
        let said = self.user.get(&self.messages_path()).await?;
        let listed = said.json::<MessagePage>()?.messages;
        said.check(listed.len() == 1, || format!("want one message, got {}", listed.len()))?;
        listed.iter().try_for_each(|message| self.check_message(&said, message, &self.first_body()))?;
        let (said, threads) = self.user.threads().await?;
        said.check(threads.iter().any(|thread| self.thread.as_ref() == Some(&thread.key)), || {
            "the thread was made and is not in the list of its user's threads".to_owned()
        })
    }

    pub(super) async fn read_message(&mut self, body: &str) -> Result<(), Trouble> {
        let said = self.user.get(&self.message_path()).await?;
        self.check_message(&said, &said.json::<OneMessage>()?.message, body)
    }

    pub(super) async fn edit_message(&mut self) -> Result<(), Trouble> {
        let edited = format!(r#"{{"text": "edited \u00e9", "mark":"{}"}}"#, self.mark);
        let said = self.user.ask(Method::PUT, &self.message_path(), message_of(&edited)).await?.expect(&[202])?;
        self.check_key(&said, &self.message)?;
        self.read_message(&edited).await
    }

    pub(super) async fn delete_message(&mut self) -> Result<(), Trouble> {
        let said = self.user.ask(Method::DELETE, &self.message_path(), "").await?.expect(&[202])?;
        self.check_key(&said, &self.message)?;
        self.user.ask(Method::GET, &self.message_path(), "").await?.expect(&[404])?;
        let said = self.user.get(&self.messages_path()).await?;
        let listed = said.json::<MessagePage>()?.messages;
        said.check(listed.is_empty(), || "the message was deleted and is still listed".to_owned())
    }

    pub(super) async fn delete_thread(&mut self) -> Result<(), Trouble> {
        let key = self.thread.clone().unwrap_or_default();
        let said = self.user.purge(&key).await?.expect(&[202])?;
        self.check_key(&said, &key)?;
        said.check(said.json::<Ack>()?.receipt.is_some(), || "want a receipt for what was erased".to_owned())?;
        self.user.ask(Method::GET, &self.thread_path(), "").await?.expect(&[403, 404])?;
        let (said, threads) = self.user.threads().await?;
        said.check(threads.iter().all(|thread| thread.key != key), || {
            "the thread was deleted and is still listed".to_owned()
        })?;
        self.user.has_no_threads();
        Ok(())
    }

    fn check_key(&self, said: &Said, wanted: &str) -> Result<(), Trouble> {
        let key = said.json::<Ack>()?.key;
        said.check(key == wanted, || format!("want {wanted} to be changed, got {key}"))
    }

    fn check_message(&self, said: &Said, message: &Message, body: &str) -> Result<(), Trouble> {
        let Message { key, author, body: found } = message;
        said.check(*key == self.message && *author == self.user.id, || {
            format!("want message {} of {}, got {key} of {author}", self.message, self.user.id)
        })?;
        said.check(found.get() == body, || format!("want the body {body} byte for byte, got {}", found.get()))
    }

    /// What a server that reads and writes bodies anew would change: white space, order, escapes, long numbers.
    pub(super) fn first_body(&self) -> String {
        format!(r#"{{ "text":"caf\u00e9 ☕", "n": 12345678901234567890.10, "mark":"{}" , "a":null}}"#, self.mark)
    }

    fn thread_path(&self) -> String {
        format!("{THREADS}/{}", self.thread.as_deref().unwrap_or_default())
    }

    fn messages_path(&self) -> String {
        format!("{}/messages", self.thread_path())
    }

    fn message_path(&self) -> String {
        format!("{}/{}", self.messages_path(), self.message)
    }
}

/// The request that carries a body of a message as it stands.
fn message_of(body: &str) -> String {
    format!(r#"{{"body":{body}}}"#)
}

/// Keys are letters, digits and colons, which a path may hold as they are.
fn is_plain(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b':')
}
