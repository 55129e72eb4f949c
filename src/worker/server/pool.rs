//! Tokens, and the threads that serve who has one.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Shutdown as Direction;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use socket2::Socket;

use super::connection::Connection;
use crate::sys::io::wakeup::Wakeup;

/// Serves a client; what went wrong, if anything.
pub(super) type Handler = dyn Fn(&Connection) -> Result<(), String> + Send + Sync;
/// Is told what went wrong.
pub(super) type OnError = dyn Fn(&str) + Send + Sync;

/// Threads, each of which serves one client at a time: as many at most as there are tokens, and each started when it is first needed.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    more: Condvar,
    /// For the one who accepts: enough tokens have come back.
    nudge: Wakeup,
    handler: Box<Handler>,
    on_error: Arc<OnError>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(u64, Connection)>,
    /// Clients that have a token.
    clients: HashMap<u64, Weak<Socket>>,
    /// Threads that wait for a client.
    idle: usize,
    threads: usize,
    last_id: u64,
    /// Whoever accepts is to be woken once so few tokens are taken.
    nudge_at: Option<usize>,
    over: bool,
}

impl Pool {
    pub(super) fn new(handler: Box<Handler>, on_error: Arc<OnError>) -> io::Result<Pool> {
        Ok(Pool(Arc::new(Shared {
            state: Mutex::default(),
            more: Condvar::new(),
            nudge: Wakeup::new()?,
            handler,
            on_error,
        })))
    }

    /// How many tokens are taken. If they are more than `few`, the pool's descriptor is readable once they no longer are.
    pub(super) fn taken(&self, few: usize) -> usize {
        let mut state = self.0.lock();
        // What came before this was asked is no news.
        self.0.nudge.clear();
        let taken = state.clients.len();
        state.nudge_at = (taken > few).then_some(few);
        taken
    }

    /// Gives a client a token and a thread.
    ///
    /// # Errors
    /// There is no thread, and none can be started; the client was closed.
    pub(super) fn serve(&self, client: Connection) -> io::Result<()> {
        let mut state = self.0.lock();
        state.last_id += 1;
        let id = state.last_id;
        state.clients.insert(id, Arc::downgrade(client.shared()));
        state.waiting.push_back((id, client));
        if state.waiting.len() <= state.idle {
            self.0.more.notify_one();
            return Ok(());
        }
        let shared = Arc::clone(&self.0);
        let started = std::thread::Builder::new()
            .name("client".to_owned())
            .spawn(move || shared.work());
        match started {
            Ok(_) => state.threads += 1,
            // Somebody will come to it.
            Err(_) if state.threads > 0 => {}
            Err(error) => {
                let refused = state.waiting.pop_back();
                state.clients.remove(&id);
                drop(state);
                drop(refused);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Breaks off every connection; their handlers see that at their next read or write.
    pub(super) fn cut(&self) -> usize {
        let clients: Vec<Weak<Socket>> = self.0.lock().clients.values().cloned().collect();
        for socket in clients.iter().filter_map(Weak::upgrade) {
            // One that has gone has gone.
            let _ = socket.shutdown(Direction::Both);
        }
        clients.len()
    }

    /// Ends the threads that have nobody to serve, and each of the others after its client.
    pub(super) fn end(&self) {
        self.0.lock().over = true;
        self.0.more.notify_all();
    }
}

impl AsFd for Pool {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.nudge.as_fd()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        // Whatever happens, also in what is told of errors.
        struct Gone<'a>(&'a Shared);
        impl Drop for Gone<'_> {
            fn drop(&mut self) {
                self.0.lock().threads -= 1;
            }
        }
        let _gone = Gone(self);
        let mut token = None;
        while let Some((id, client)) = self.next(token.take()) {
            token = Some(Token { shared: self, id });
            let peer = client.peer();
            let served = catch_unwind(AssertUnwindSafe(|| (self.handler)(&client)));
            drop(client);
            match served {
                Ok(Ok(())) => {}
                Ok(Err(why)) => (self.on_error)(&format!("{peer}: {why}")),
                Err(panic) => (self.on_error)(&format!("{peer}: panic: {}", message(&*panic))),
            }
        }
    }

    /// Waits for the next client. The token of the last one comes back as the thread becomes idle, and not before: who gets it finds the thread.
    fn next(&self, token: Option<Token<'_>>) -> Option<(u64, Connection)> {
        let mut state = self.lock();
        if let Some(token) = token {
            self.give_back(&mut state, token.id);
            std::mem::forget(token);
        }
        state.idle += 1;
        loop {
            let next = state.waiting.pop_front();
            if next.is_some() || state.over {
                state.idle -= 1;
                return next;
            }
            state = self
                .more
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_back(&self, state: &mut State, id: u64) {
        state.clients.remove(&id);
        let taken = state.clients.len();
        if state.nudge_at.is_some_and(|few| taken <= few) {
            state.nudge_at = None;
            self.nudge.wake();
        }
    }
}

/// Comes back whatever happens to its client (W6).
struct Token<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        self.shared.give_back(&mut state, self.id);
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text")
}
