//! Work that its caller waits for but that does not end with its caller.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs in the task that awaits it, which saves the way to another one; if that task is dropped first, because its
/// client hung up, it goes on in one of its own.
pub(super) struct Detached<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Detached<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let work = self.0.as_mut().expect("nothing polls a future that is ready");
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let (Some(work), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_when_its_caller_is_gone() {
        let (go, gate) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel();
        let work = Detached::new(async move {
            gate.await.expect("the gate opens");
            done.send(()).expect("the test waits");
        });
        let caller = tokio::time::timeout(Duration::ZERO, work).await;
        assert!(caller.is_err(), "the caller left first");
        go.send(()).expect("the work waits");
        assert_eq!(finished.await, Ok(()));
    }

    #[tokio::test]
    async fn what_was_done_is_handed_over_once() {
        assert_eq!(Detached::new(async { 7 }).await, 7);
    }
}
