//! The tokens that bound the clients at once, and the threads that serve clients with a token.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::Shutdown as Direction;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use socket2::Socket;

use super::connection::Connection;
use crate::sys::io::wakeup::Wakeup;

/// Serves a client. The error is why that failed.
pub(super) type ClientHandler = dyn Fn(&Connection) -> Result<(), String> + Send + Sync;
/// Called with one line for each error.
pub(super) type OnError = dyn Fn(&str) + Send + Sync;

/// Threads that serve one client each at a time. There are at most as many as tokens, and each is
/// started when it is first needed.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// A client waits for a thread, or the pool has ended.
    more: Condvar,
    /// Wakes the thread that accepts: enough tokens were given back.
    wakeup: Wakeup,
    handler: Box<ClientHandler>,
    on_error: Arc<OnError>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(u64, Connection)>,
    /// Clients that have a token.
    clients: BTreeMap<u64, Weak<Socket>>,
    /// Threads that wait for a client.
    idle: usize,
    threads: usize,
    last_id: u64,
    /// Wake the thread that accepts when this number of tokens, or less, are taken.
    wake_at: Option<usize>,
    has_ended: bool,
}

impl Pool {
    pub(super) fn new(handler: Box<ClientHandler>, on_error: Arc<OnError>) -> io::Result<Pool> {
        Ok(Pool(Arc::new(Shared {
            state: Mutex::default(),
            more: Condvar::new(),
            wakeup: Wakeup::new()?,
            handler,
            on_error,
        })))
    }

    /// How many tokens are taken. If they are more than `few`, the pool's descriptor becomes
    /// readable when they no longer are.
    pub(super) fn taken(&self, few: usize) -> usize {
        let mut state = self.0.lock();
        // An earlier wakeup is about an earlier call.
        self.0.wakeup.clear();
        let taken = state.clients.len();
        state.wake_at = (taken > few).then_some(few);
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
            .spawn(move || shared.run_thread());
        match started {
            Ok(_) => state.threads += 1,
            // A running thread will serve it later.
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

    /// Shuts every connection down: its handler sees that at its next read or write. Returns how
    /// many.
    pub(super) fn shut_down_clients(&self) -> usize {
        let clients: Vec<Weak<Socket>> = self.0.lock().clients.values().cloned().collect();
        for socket in clients.iter().filter_map(Weak::upgrade) {
            // An error means that the client has closed it already.
            let _ = socket.shutdown(Direction::Both);
        }
        clients.len()
    }

    /// Ends the idle threads now, and each of the others after its client.
    pub(super) fn end(&self) {
        self.0.lock().has_ended = true;
        self.0.more.notify_all();
    }
}

impl AsFd for Pool {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.wakeup.as_fd()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread: serves clients until the pool ends.
    fn run_thread(&self) {
        // Counts the thread off even if `on_error` panics.
        struct ThreadCount<'a>(&'a Shared);
        impl Drop for ThreadCount<'_> {
            fn drop(&mut self) {
                self.0.lock().threads -= 1;
            }
        }
        let _count = ThreadCount(self);
        let mut token = None;
        while let Some((id, client)) = self.next_client(token.take()) {
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

    /// Waits for the next client. Gives back the token of the last client under the same lock as
    /// the thread becomes idle: so the next client with this token finds an idle thread.
    fn next_client(&self, token: Option<Token<'_>>) -> Option<(u64, Connection)> {
        let mut state = self.lock();
        if let Some(token) = token {
            self.restore(&mut state, token.id);
            std::mem::forget(token);
        }
        state.idle += 1;
        loop {
            let next = state.waiting.pop_front();
            if next.is_some() || state.has_ended {
                state.idle -= 1;
                return next;
            }
            state = self
                .more
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn restore(&self, state: &mut State, id: u64) {
        state.clients.remove(&id);
        let taken = state.clients.len();
        if state.wake_at.is_some_and(|few| taken <= few) {
            state.wake_at = None;
            self.wakeup.wake();
        }
    }
}

/// A token, which is given back even if the handler panics (W6).
struct Token<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        self.shared.restore(&mut state, self.id);
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text")
}
