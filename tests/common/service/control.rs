//! A client that writes and reads the lines of the control protocol itself.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use super::HANG;

/// A connection to a control socket.
pub(crate) struct Control {
    pub(crate) stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Control {
    pub(crate) fn connect(path: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(HANG))?;
        stream.set_write_timeout(Some(HANG))?;
        Ok(Control {
            reader: BufReader::new(stream.try_clone()?),
            stream,
        })
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a request.
    #[track_caller]
    pub(crate) fn request(&mut self, request: &Value) {
        self.send(format!("{request}\n")).expect("sent");
    }

    /// The next line; None at the end.
    #[track_caller]
    pub(crate) fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line in time");
        if line.is_empty() {
            return None;
        }
        assert!(line.ends_with('\n'), "a whole line: {line:?}");
        Some(serde_json::from_str(&line).expect("JSON"))
    }

    /// The status document, of a master that may be on its way out.
    pub(crate) fn try_status(&mut self) -> Option<Value> {
        self.send("{\"cmd\":\"status\"}\n").ok()?;
        let mut line = String::new();
        self.reader.read_line(&mut line).ok()?;
        let reply: Value = serde_json::from_str(&line).ok()?;
        reply.get("status").cloned()
    }

    /// The next reply; events before it are passed over.
    #[track_caller]
    pub(crate) fn reply(&mut self) -> Value {
        loop {
            let line = self.line().expect("a reply before the end");
            if line.get("ok").is_some() {
                return line;
            }
        }
    }

    /// Sends a request and waits for its reply.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.request(request);
        self.reply()
    }

    /// The status document.
    #[track_caller]
    pub(crate) fn status(&mut self) -> Value {
        let reply = self.ask(&json!({"cmd": "status"}));
        assert_eq!(reply["ok"], json!(true), "{reply}");
        reply["status"].clone()
    }
}

/// The error of a reply: its code and message.
#[track_caller]
pub(crate) fn error(reply: &Value) -> (String, String) {
    assert_eq!(reply["ok"], json!(false), "{reply}");
    let text = |field: &str| reply["error"][field].as_str().expect("a string").to_owned();
    (text("code"), text("message"))
}
