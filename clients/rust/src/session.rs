//! One logical stream over as many calls as it takes.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::Sleep;
use tonic::{Response, Status, Streaming};

use crate::client::Service;
use crate::{Client, Error};

type Opening<M> = Pin<Box<dyn Future<Output = Result<Response<Streaming<M>>, Status>> + Send>>;

/// What a call's messages mean, and what to ask if it breaks.
pub(crate) trait Session: Unpin {
    type Message: 'static;
    type Item;

    /// Makes the next call: all of it at first, later what is left.
    fn call(&mut self, service: Service) -> Opening<Self::Message>;
    /// Takes in one message and gives what it has for the caller.
    fn receive(&mut self, message: Self::Message) -> Result<Vec<Self::Item>, Error>;
    /// Whether all that was asked for is here.
    fn done(&self) -> bool;
    /// The error of a call that ended well before the session did.
    fn cut(&self) -> Error;
    /// The pause before the next call; the error itself if there should be none.
    fn pause_after(&mut self, error: Error) -> Result<std::time::Duration, Error>;
}

enum State<M> {
    Idle,
    Opening(Opening<M>),
    Open(Box<Streaming<M>>),
    Pausing(Pin<Box<Sleep>>),
    Over,
}

/// Drives a session. Dropping it cancels the call under way.
pub(crate) struct Resumed<S: Session> {
    pub(crate) session: S,
    service: Service,
    state: State<S::Message>,
    waiting: VecDeque<S::Item>,
}

impl<S: Session> Resumed<S> {
    pub(crate) fn new(client: &Client, session: S) -> Self {
        Self { session, service: client.service(), state: State::Idle, waiting: VecDeque::new() }
    }

    /// Whether the session is done and all its items were taken.
    pub(crate) fn exhausted(&self) -> bool {
        self.session.done() && self.waiting.is_empty()
    }

    pub(crate) fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<S::Item, Error>>> {
        loop {
            if let Some(item) = self.waiting.pop_front() {
                return Poll::Ready(Some(Ok(item)));
            }
            if let Err(error) = ready!(self.poll_advance(context)) {
                return Poll::Ready(Some(Err(error)));
            }
            if self.waiting.is_empty() && matches!(self.state, State::Over) {
                return Poll::Ready(None);
            }
        }
    }

    /// One step: a call made, a message taken in, a pause slept. An error ends the session.
    pub(crate) fn poll_advance(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let broken = match &mut self.state {
            State::Over => return Poll::Ready(Ok(())),
            State::Idle => {
                self.state = State::Opening(self.session.call(self.service.clone()));
                return Poll::Ready(Ok(()));
            }
            State::Pausing(sleep) => {
                ready!(sleep.as_mut().poll(context));
                self.state = State::Idle;
                return Poll::Ready(Ok(()));
            }
            State::Opening(opening) => match ready!(opening.as_mut().poll(context)) {
                Ok(response) => {
                    self.state = State::Open(Box::new(response.into_inner()));
                    return Poll::Ready(Ok(()));
                }
                Err(status) => status.into(),
            },
            State::Open(stream) => match ready!(futures_core::Stream::poll_next(Pin::new(stream), context)) {
                Some(Ok(message)) => match self.session.receive(message) {
                    Ok(items) => {
                        self.waiting.extend(items);
                        if self.session.done() {
                            self.state = State::Over;
                        }
                        return Poll::Ready(Ok(()));
                    }
                    Err(error) => error,
                },
                Some(Err(status)) => status.into(),
                None => self.session.cut(),
            },
        };
        self.state = match self.session.pause_after(broken) {
            Ok(pause) => State::Pausing(Box::pin(tokio::time::sleep(pause))),
            Err(error) => {
                self.state = State::Over;
                return Poll::Ready(Err(error));
            }
        };
        Poll::Ready(Ok(()))
    }
}
